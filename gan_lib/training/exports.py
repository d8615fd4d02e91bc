"""What leaves a training: the recipe's artifacts, one folder each."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from torch import nn

from gan_lib.core import storage
from gan_lib.export.artifact import Artifact
from gan_lib.training.engine import Engine

_INDEX = "exports.json"


def export(engine: Engine, url: str) -> list[str]:
    """Write every artifact of the recipe below ``url``, and return their names, in the recipe's order.

    ``NAME/`` holds the primary averages of its nets. For each secondary average of a net that an artifact holds there
    is a ``NAME-AVERAGE/`` beside it. The list of names is written last: what it does not name is of an earlier export.
    """
    written: list[str] = []
    with engine.averaged():
        for name, artifact in engine.recipe.exports().items():
            _save(artifact, storage.join(url, name))
            written.append(name)
    for average in engine.averages.secondary:
        net = engine.recipe.nets[engine.averages.net_of[average]]
        with engine.averaged(secondary=average):
            for name, artifact in engine.recipe.exports().items():
                if _shares_tensors(artifact.net, net):
                    _save(artifact, storage.join(url, f"{name}-{average}"))
                    written.append(f"{name}-{average}")
    if written:
        storage.write_atomic(storage.join(url, _INDEX), json.dumps(written).encode())
    return written


def exported(url: str) -> list[str]:
    """Names of the artifacts that :func:`export` wrote below ``url``; none where it was never called."""
    index = storage.join(url, _INDEX)
    return [str(name) for name in json.loads(storage.read_bytes(index))] if storage.exists(index) else []


def _shares_tensors(one: nn.Module, other: nn.Module) -> bool:
    own = {id(tensor) for tensor in one.state_dict(keep_vars=True).values()}
    return any(id(tensor) in own for tensor in other.state_dict(keep_vars=True).values())


def _save(artifact: Artifact, url: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        artifact.save(folder)
        for file in sorted(Path(folder).iterdir()):
            storage.write_atomic(storage.join(url, file.name), file.read_bytes())
