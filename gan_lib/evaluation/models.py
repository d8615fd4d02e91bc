"""The models of an evaluation: registered ones, and what lies in a folder because nobody has registered it yet."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gan_lib.core import storage
from gan_lib.core.errors import UserError
from gan_lib.export.artifact import DESCRIPTION, WEIGHTS, Artifact
from gan_lib.export.trust import trusted_packages
from gan_lib.scoring.model import Model, fetch, shared
from gan_lib.scoring.model_cache import digest_of
from gan_lib.tracking import TrackingSettings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_REGISTERED = "models:/"
_EXPORT, _INDEX = "export", "exports.json"  # as a training leaves them below its checkpoint folder


@dataclass(frozen=True)
class UnregisteredModel(Model):
    """An artifact in a folder; it has no version and no run."""

    @property
    def uri(self) -> str:
        """The folder."""
        return self.name


def fetch_model(spark: SparkSession, uri: str, tracking: TrackingSettings, trusted: Sequence[str]) -> Model:
    """``models:/...`` from the registry; else the artifact in the folder ``uri``, on any store.

    The folder may be an artifact's, one that holds several exports, or a training's checkpoint folder: of the latter
    two the first export counts, as it does when a training is registered.

    Raises:
        UserError: there is no such model, or no artifact.
    """
    if uri.startswith(_REGISTERED):
        return fetch(spark, uri, tracking, trusted)
    folder = _artifact_folder(uri)
    files = {name: storage.read_bytes(storage.join(folder, name)) for name in (WEIGHTS, DESCRIPTION)}
    with tempfile.TemporaryDirectory(prefix="gan_lib-model-") as scratch:
        for name, content in files.items():
            Path(scratch, name).write_bytes(content)
        description = Artifact.load(scratch, trusted).description
    allowed = trusted_packages(trusted)
    return UnregisteredModel(folder, "", None, digest_of(files), description, allowed, shared(spark, files))


def _artifact_folder(uri: str) -> str:
    root = storage.absolute(uri)
    for folder in (root, storage.join(root, _EXPORT)):
        if storage.exists(storage.join(folder, DESCRIPTION)):
            return folder
        if storage.exists(index := storage.join(folder, _INDEX)):
            return storage.join(folder, str(json.loads(storage.read_bytes(index))[0]))
    raise UserError(
        f"There is no model {uri}: write models:/NAME@ALIAS, models:/NAME/VERSION, or a folder that holds "
        f"{DESCRIPTION} or a training's {_EXPORT}/{_INDEX}."
    )
