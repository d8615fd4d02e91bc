"""Where a model comes from: the registry, what this package ships, or a folder. Knows nothing of Spark."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gan_lib import tracking
from gan_lib.core import storage
from gan_lib.core.errors import UserError
from gan_lib.core.stores.commit_record import read_commit_record
from gan_lib.export.artifact import DESCRIPTION, WEIGHTS, Artifact
from gan_lib.export.description import Description
from gan_lib.export.errors import ArtifactError
from gan_lib.export.interpolation import interpolate
from gan_lib.scoring.model_cache import digest_of
from gan_lib.scoring.settings import InterpolationSettings
from gan_lib.shipped import nets as shipped
from gan_lib.tracking import TrackingSettings

_REGISTERED = "models:"
_EXPORT, _INDEX = "export", "exports.json"  # as a training leaves them below its checkpoint folder
_DIGITS = 12  # of a digest, where it stands for a version


@dataclass(frozen=True)
class FoundModel:
    """A model's files, and who it is. They hold an artifact that loads."""

    name: str
    version: str
    """Another one for other weights; empty for a folder, which has none."""
    run_id: str | None
    """MLflow run that made it, where one is known."""
    uri: str
    """That means this very version."""
    files: Mapping[str, bytes]
    """File name -> content."""
    description: Description
    """What goes in and what comes out."""

    def load(self, trusted: Sequence[str] = ()) -> Artifact:
        """The artifact, as :meth:`gan_lib.export.artifact.Artifact.load` gives it."""
        return _load(self.files, trusted)


def find_model(
    uri: str,
    settings: TrackingSettings | None = None,
    trusted: Sequence[str] = (),
    interpolation: InterpolationSettings | None = None,
) -> FoundModel:
    """Read the model that ``uri`` means now, or the one between it and another.

    ``models:/NAME@ALIAS`` and ``models:/NAME/VERSION`` are in the registry of ``settings``, ``shipped:NAME`` comes with
    this package, and all else is a folder on any store: an artifact's, one that holds several exports, or a training's
    checkpoint folder. Of the latter two the first export counts, as it does when a training is registered.

    Raises:
        UserError: no such model, or it is no artifact, or ``trusted`` does not hold its net, or there is nothing
            between it and the other.
    """
    found = _find(uri, settings, trusted)
    if interpolation is None:
        return found
    return _between(found, _find(interpolation.model, settings, trusted), interpolation.alpha, trusted)


def _find(uri: str, settings: TrackingSettings | None, trusted: Sequence[str]) -> FoundModel:
    if uri.startswith(shipped.SCHEME):
        return _shipped(uri, trusted)
    if uri.startswith(_REGISTERED):
        return _registered(uri, settings, trusted)
    return _in_folder(uri, trusted)


def _shipped(uri: str, trusted: Sequence[str]) -> FoundModel:
    name = uri.removeprefix(shipped.SCHEME)
    files = shipped.files_of(name)
    return FoundModel(name, digest_of(files)[:_DIGITS], None, uri, files, _load(files, trusted).description)


def _registered(uri: str, settings: TrackingSettings | None, trusted: Sequence[str]) -> FoundModel:
    found = tracking.resolve(uri, settings)
    exact = f"models:/{found.name}/{found.version}"
    with tempfile.TemporaryDirectory(prefix="gan_lib-model-") as scratch:
        folder = Path(tracking.download_model(exact, settings, scratch))
        # A model that does not load must stop the job here, before Spark starts on it.
        description = Artifact.load(folder, trusted).description
        files = {name: (folder / name).read_bytes() for name in (WEIGHTS, DESCRIPTION)}
    return FoundModel(found.name, found.version, found.run_id, exact, files, description)


def _in_folder(uri: str, trusted: Sequence[str]) -> FoundModel:
    folder = _artifact_folder(uri)
    try:
        files = {name: storage.read_bytes(storage.join(folder, name)) for name in (WEIGHTS, DESCRIPTION)}
    except FileNotFoundError as error:
        raise ArtifactError(f"The artifact in {folder} is not whole: {error}.") from None
    return FoundModel(folder, "", None, folder, files, _load(files, trusted).description)


def _artifact_folder(uri: str) -> str:
    root = storage.absolute(uri)
    for folder in (root, storage.join(root, _EXPORT)):
        if storage.exists(storage.join(folder, DESCRIPTION)):
            return folder
        record = read_commit_record(storage.join(folder, _INDEX))
        if record is not None:
            return storage.join(folder, str(record["artifacts"][0]))
    raise UserError(
        f"There is no model {uri}: write models:/NAME@ALIAS, models:/NAME/VERSION, {shipped.SCHEME}NAME, or a folder "
        f"that holds {DESCRIPTION} or a training's {_EXPORT}/{_INDEX}."
    )


def _between(model: FoundModel, other: FoundModel, alpha: float, trusted: Sequence[str]) -> FoundModel:
    try:
        artifact = interpolate(model.load(trusted), other.load(trusted), alpha)
    except ArtifactError as error:
        raise UserError(f"{model.uri} and {other.uri} cannot be interpolated. {error}") from None
    with tempfile.TemporaryDirectory(prefix="gan_lib-model-") as scratch:
        artifact.save(scratch)
        files = {name: Path(scratch, name).read_bytes() for name in (WEIGHTS, DESCRIPTION)}
    # A version is told by both: an alias of the other may move too.
    version = f"{alpha:g} x {model.version} + {1 - alpha:g} x {f'{other.name} {other.version}'.strip()}"
    uri = f"{alpha:g} x {model.uri} + {1 - alpha:g} x {other.uri}"
    return FoundModel(model.name, version, model.run_id, uri, files, artifact.description)


def _load(files: Mapping[str, bytes], trusted: Sequence[str]) -> Artifact:
    with tempfile.TemporaryDirectory(prefix="gan_lib-model-") as scratch:
        for name, content in files.items():
            Path(scratch, name).write_bytes(content)
        return Artifact.load(scratch, trusted)  # what is mapped of its files stays when they are removed
