"""Checkpoints: tensors and numbers in one file, written whole or not at all, on any store that all ranks reach."""

from __future__ import annotations

import io
import re
import sys
from typing import Any

import torch

from gan_lib.core import storage
from gan_lib.core.errors import UserError

BEST = "best.pt"
_NAME = re.compile(r"images-(\d{12})\.pt")


class Checkpoints:
    """The newest ``keep`` checkpoints in ``folder``, called ``images-000000012800.pt`` and so on, and ``best.pt``."""

    def __init__(self, folder: str, keep: int) -> None:
        self.folder, self._keep = folder, keep

    def save(self, state: dict[str, Any], images: int, is_best: bool) -> None:
        """Write ``state``, reached after ``images`` images, then remove what is older than the newest ``keep``."""
        data = _to_bytes(state)
        if is_best:
            storage.write_atomic(storage.join(self.folder, BEST), data)
        storage.write_atomic(self._url(images), data)
        for old in self.images()[: -self._keep]:
            storage.remove_tree(self._url(old))

    def images(self) -> list[int]:
        """Images seen by each checkpoint that is here, oldest first."""
        matches = map(_NAME.fullmatch, storage.list_names(self.folder))
        return sorted(int(match.group(1)) for match in matches if match)

    def newest_readable(self) -> int | None:
        """Images seen by the newest checkpoint that can be read; None where there is none.

        One that cannot be read was damaged after it was written: it is passed over, and said so.
        """
        for images in reversed(self.images()):
            try:
                self.state_after(images)
                return images
            except UserError as error:
                print(f"warning: {error} Going on from an older one.", file=sys.stderr, flush=True)
        return None

    def state_after(self, images: int) -> dict[str, Any]:
        """The state after ``images`` images.

        Raises:
            UserError: it cannot be read.
        """
        return read(self._url(images))

    def best_state(self) -> dict[str, Any]:
        """The state of the best checkpoint.

        Raises:
            UserError: there is none, or it cannot be read.
        """
        return read(storage.join(self.folder, BEST))

    def _url(self, images: int) -> str:
        return storage.join(self.folder, f"images-{images:012d}.pt")


def read(url: str) -> dict[str, Any]:
    """The state in one checkpoint file, on the CPU. Runs no code that the file might hold.

    Raises:
        UserError: there is no such file, or it is no checkpoint.
    """
    try:
        state = torch.load(io.BytesIO(storage.read_bytes(url)), map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"There is no checkpoint {url}.") from None
    except Exception as error:  # torch.load raises many kinds on a damaged or hostile file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{url} cannot be read as a checkpoint: {reason}.") from error
    if not isinstance(state, dict) or "nets" not in state:
        raise UserError(f"{url} is no checkpoint of a training: it holds no nets.")
    return state


def averaged_weights(url: str) -> dict[str, torch.Tensor]:
    """The weights to begin another training with, by net and key: averaged where an average was kept.

    ``url`` is one checkpoint file or a training's checkpoint folder: then its best, else its newest.

    Raises:
        UserError: no checkpoint is there.
    """
    if storage.is_folder(url):
        found = Checkpoints(url, keep=1)
        newest = found.newest_readable()
        has_best = storage.exists(storage.join(url, BEST))
        if newest is None and not has_best:
            raise UserError(f"There is no checkpoint in {url}; train there first, or name another training.init_from.")
        state = found.best_state() if has_best else found.state_after(newest or 0)
    else:
        state = read(url)
    return {**state["nets"], **state["averages"]}


def _to_bytes(state: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()
