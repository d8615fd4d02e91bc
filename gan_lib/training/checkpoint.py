"""Checkpoints: tensors and numbers in a file, and a small commit record beside it, on any store that all ranks reach.

The rules that a training relies on, at whatever moment it was killed:

- The file is written first, then its record, which tells its length and digest. A file that is not as its record says
  is not whole. One without a record (its writer was killed between the two, or a person brought it) is whole where its
  archive's own checksums say so.
- A run goes on from the newest checkpoint that is whole. One that is not is passed over, and said so. One that cannot
  be had now ends the run: a store that refuses does not say that nothing is there.
- ``keep`` counts back from the checkpoint just written. What lies ahead of it was passed over by this run: it is
  neither counted nor removed until this run has come as far, and what is damaged is never counted.
- The best checkpoint is one of these files. Each later one names it, in its state and in its record, and it stays while
  one that names it stays: there is no moment at which the two disagree.
"""

from __future__ import annotations

import hashlib
import io
import logging
import re
import sys
import time
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import safetensors.torch
import torch

from gan_lib.core import storage
from gan_lib.core.errors import StoreUnavailable, UserError
from gan_lib.core.stores.commit_record import read_commit_record, write_commit_record
from gan_lib.export.artifact import WEIGHTS
from gan_lib.shipped import nets
from gan_lib.training.settings import ShippedStart

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

_NAME = re.compile(r"images-(\d{12})\.pt")
PAUSES_AT_THE_START = (0.5, 2.0, 5.0)
"""Seconds between attempts to read a store that refuses or does not answer, each of which tries several times."""


class Checkpoints:
    """The newest ``keep`` checkpoints in ``folder``, called ``images-000000012800.pt`` and so on, and the best."""

    def __init__(self, folder: str, keep: int) -> None:
        self.folder, self._keep = folder, keep
        self._damaged: set[int] = set()

    def save(self, state: Mapping[str, Any], images: int, best: int | None = None) -> None:
        """Write ``state``, reached after ``images`` images, then remove older ones that nobody needs.

        ``best``: images seen by the best checkpoint so far, which may be this one; None: none is chosen.
        """
        data = _to_bytes(dict(state))
        url = self._url(images)
        storage.remove_tree(_record_of(url))  # of an earlier file of this name, which it would not fit
        storage.write_atomic(url, data)
        about = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        write_commit_record(_record_of(url), {**about, "best": best, "data": state.get("data")})
        self._damaged.discard(images)
        self._remove_older(images)

    def _remove_older(self, images: int) -> None:
        behind = [number for number in self.images() if number <= images]
        newest = [number for number in behind if number not in self._damaged][-self._keep :]
        bests = {(read_commit_record(_record_of(self._url(number))) or {}).get("best") for number in newest}
        for number in behind:
            if number not in newest and number not in bests:
                storage.remove_tree(_record_of(self._url(number)))  # first: a record is never without its file
                storage.remove_tree(self._url(number))

    def images(self) -> list[int]:
        """Images seen by each checkpoint that is here, whole or not, oldest first."""
        matches = map(_NAME.fullmatch, storage.list_names(self.folder))
        return sorted(int(match.group(1)) for match in matches if match)

    def newest(self) -> tuple[int, dict[str, Any]] | None:
        """Images seen by the newest checkpoint that is whole, and its state; None where there is none.

        Raises:
            StoreUnavailable: what is there cannot be had now.
        """
        for images in reversed(self.images()):
            try:
                return images, self.state_after(images)
            except UserError as error:
                self._damaged.add(images)
                print(f"warning: {error} Going on from an older one.", file=sys.stderr, flush=True)
        return None

    def state_after(self, images: int) -> dict[str, Any]:
        """The state after ``images`` images.

        Raises:
            UserError: there is none, or it is not whole.
            StoreUnavailable: it cannot be had now.
        """
        return read(self._url(images))

    def began_with(self) -> dict[str, int | None]:
        """The versions of the datasets that this training began with, by their keys below ``data``.

        Empty where there is no checkpoint, or none that tells. Reads a small record where it can.

        Raises:
            StoreUnavailable: what is there cannot be had now.
        """
        for images in reversed(self.images()):
            record = read_commit_record(_record_of(self._url(images)))
            if record is not None:
                return dict(record.get("data") or {})
        found = self.newest()
        return dict(found[1].get("data") or {}) if found is not None else {}

    def sweep(self) -> None:
        """Remove files that killed writers of checkpoints and exports left half written. Only before anything is
        written: a training has its folder for itself."""
        try:
            storage.sweep_folder(self.folder)
            storage.sweep_temporaries(storage.join(self.folder, "export"))
        except OSError as error:  # nothing depends on it
            logger.warning("What killed writers left in %s was not removed: %s", self.folder, error)

    def _url(self, images: int) -> str:
        return storage.join(self.folder, f"images-{images:012d}.pt")


def patiently(action: Callable[[], Result], folder: str) -> Result:
    """The result of ``action``, which reads the checkpoints in ``folder`` before a training starts.

    Raises:
        UserError: the store refuses or does not answer, time after time. To begin from image 0 then would be wrong.
    """
    for pause in (*PAUSES_AT_THE_START, None):
        try:
            return action()
        except StoreUnavailable as error:
            if pause is None:
                raise UserError(
                    f"The checkpoints in checkpoint.folder = {folder} cannot be read now, so it is not known where "
                    f"this training stands, and nothing was trained ({error}): start again when the store answers."
                ) from error
            logger.warning("%s Trying again in %s seconds.", error, pause)
            time.sleep(pause)
    raise AssertionError("unreachable")


def read(url: str) -> dict[str, Any]:
    """The state in one checkpoint file, on the CPU. Runs no code that the file might hold.

    Raises:
        UserError: there is no such file, it is not whole, or it is no checkpoint.
        StoreUnavailable: it cannot be had now.
    """
    try:
        data = storage.read_bytes(url)
    except FileNotFoundError:
        raise UserError(f"There is no checkpoint {url}.") from None
    try:
        _check_whole(data, read_commit_record(_record_of(url)))
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # torch.load raises many kinds on a damaged or hostile file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{url} cannot be read as a checkpoint: {reason}.") from error
    if not isinstance(state, dict) or "nets" not in state:
        raise UserError(f"{url} is no checkpoint of a training: it holds no nets.")
    return state


def _check_whole(data: bytes, record: Mapping[str, Any] | None) -> None:
    """Raises ValueError, or what zipfile raises, where ``data`` is not what its writer wrote."""
    if record is not None and "sha256" in record:
        if len(data) != record["bytes"]:
            raise ValueError(f"it has {len(data)} of {record['bytes']} bytes")
        if hashlib.sha256(data).hexdigest() != record["sha256"]:
            raise ValueError("it is not what was written")
        return
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"{damaged} in it is damaged")


def averaged_weights(url: str) -> dict[str, torch.Tensor]:
    """The weights to begin another training with, by net and key: averaged where an average was kept.

    ``url`` is one checkpoint file or a training's checkpoint folder: then its best, else its newest.

    Raises:
        UserError: no checkpoint is there.
    """
    if storage.is_folder(url):
        found = Checkpoints(url, keep=1)
        newest = found.newest()
        if newest is None:
            raise UserError(f"There is no checkpoint in {url}; train there first, or name another training.init_from.")
        images, state = newest
        best = state.get("early_stopping", {}).get("best_images")
        if best is not None and best != images:
            state = found.state_after(best)
    else:
        state = read(url)
    return {**state["nets"], **state["averages"]}


def starting_weights(init_from: str | ShippedStart) -> dict[str, torch.Tensor]:
    """What ``training.init_from`` names, by net and key: another training's weights, or a shipped net's.

    Raises:
        UserError: there is no such checkpoint or net.
    """
    if isinstance(init_from, str):
        return averaged_weights(init_from)
    weights = safetensors.torch.load(nets.files_of(init_from.shipped)[WEIGHTS])
    return {f"{init_from.net}.{key}": value for key, value in weights.items()}


def _record_of(url: str) -> str:
    """Where the commit record of the checkpoint at ``url`` lies."""
    return f"{url.removesuffix('.pt')}.json"


def _to_bytes(state: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()
