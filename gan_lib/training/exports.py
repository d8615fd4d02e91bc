"""What leaves a training: the recipe's artifacts, one folder each."""

from __future__ import annotations

import tempfile
from pathlib import Path

from torch import nn

from gan_lib.core import storage
from gan_lib.core.stores.commit_record import read_commit_record, write_commit_record
from gan_lib.export.artifact import Artifact
from gan_lib.training.engine import Engine

_RECORD = "exports.json"


def export(engine: Engine, url: str) -> list[str]:
    """Write every artifact of the recipe below ``url``, and return their names, in the recipe's order.

    ``NAME/`` holds the primary averages of its nets. For each secondary average of a net that an artifact holds there
    is a ``NAME-AVERAGE/`` beside it. Their commit record is removed first and written last: what is there without it is
    of an export that was killed, and what it does not name is of an earlier one.
    """
    storage.remove_tree(storage.join(url, _RECORD))
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
        write_commit_record(storage.join(url, _RECORD), {"artifacts": written})
    return written


def exported(url: str) -> list[str]:
    """Names of the artifacts that :func:`export` wrote below ``url``; none where it has not come to its end."""
    record = read_commit_record(storage.join(url, _RECORD))
    return [] if record is None else [str(name) for name in record["artifacts"]]


def _shares_tensors(one: nn.Module, other: nn.Module) -> bool:
    own = {id(tensor) for tensor in one.state_dict(keep_vars=True).values()}
    return any(id(tensor) in own for tensor in other.state_dict(keep_vars=True).values())


def _save(artifact: Artifact, url: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        artifact.save(folder)
        for file in sorted(Path(folder).iterdir()):
            storage.write_atomic(storage.join(url, file.name), file.read_bytes())
