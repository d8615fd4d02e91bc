"""Which cache serves a dataset on a machine: a pure choice, and the opening of what was chosen beside it."""

from __future__ import annotations

import dataclasses
import getpass
import logging
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gan_lib.core import storage
from gan_lib.dataset.array_fields import CompressedArrayField
from gan_lib.dataset.catalog import Dataset
from gan_lib.dataset.schema import Field, ImageField
from gan_lib.loading.caches.decoded import DecodedCache, bytes_of_kept_row
from gan_lib.loading.caches.folder_lock import TemporaryFolder
from gan_lib.loading.caches.machine import free_disk, free_memory, lies_in_memory
from gan_lib.loading.caches.settings import CacheSettings
from gan_lib.loading.caches.stored import StoredCache

logger = logging.getLogger(__name__)

# What else the machine writes meanwhile: checkpoints, logs, other jobs.
_PART_OF_FREE_DISK = 0.8
# A decoded row that is not in the page cache is read from the disk, more slowly than its image is decoded. The other
# half is for the training itself, which has hardly begun when this is asked.
_PART_OF_FREE_MEMORY = 0.5


@dataclass(frozen=True)
class CacheChoice:
    """The caches of a loader, at most one of which is there, and a sentence that says why."""

    decoded: DecodedCache | None
    stored: StoredCache | None
    reason: str
    temporary: TemporaryFolder | None = None
    """where the caches lie, if they are not to outlast their use"""

    def close(self) -> None:
        """Once no loader reads by it any more: remove what is temporary, unless another process uses it still."""
        if self.temporary is not None:
            self.temporary.close()


def open_caches(dataset: Dataset, settings: CacheSettings, rows_wanted: int | None = None) -> CacheChoice:
    """The caches that ``settings`` ask for on this machine; the choice is logged.

    ``rows_wanted`` is how many rows all ranks together will read, if that is known.
    """
    if settings.kind == "none":  # no folder is made
        return choose_cache(dataset, settings, 0, 0, False)
    folder = Path(storage.absolute(settings.folder or _default_folder()))
    temporary = None
    try:
        if settings.folder is None:
            temporary = TemporaryFolder(folder)
        folder.mkdir(parents=True, exist_ok=True)
        disk = free_disk(folder)
    except OSError as error:  # a training does not end for want of a cache
        choice = CacheChoice(None, None, f"{dataset.url} is not cached, for {folder} cannot be used: {error}.")
        logger.warning("%s", choice.reason)
        return choice
    memory = free_memory()
    if lies_in_memory(folder):
        disk = min(disk, int(memory * _PART_OF_FREE_MEMORY))
    settings = settings.model_copy(update={"folder": str(folder)})
    remote = not storage.is_local(dataset.url)
    choice = choose_cache(dataset, settings, disk, memory, remote, rows_wanted)
    logger.info("%s", choice.reason)
    if temporary is not None and choice.decoded is None and choice.stored is None:
        temporary.close()
    return dataclasses.replace(choice, temporary=temporary)


def choose_cache(
    dataset: Dataset,
    settings: CacheSettings,
    free_disk: int,
    free_memory: int,
    remote: bool,
    rows_wanted: int | None = None,
) -> CacheChoice:
    """The cache that ``settings`` ask for, of ``dataset``.

    Args:
        free_disk: bytes that all caches in the folder may take, what they take already included.
        free_memory: bytes that are free for the page cache.
        remote: the dataset does not lie on a disk of this machine.
        rows_wanted: how many rows all ranks together will read; None: not known.
    """
    max_bytes = min(int(free_disk * _PART_OF_FREE_DISK), settings.max_bytes or free_disk)
    folder = settings.folder or _default_folder()
    read_again = rows_wanted is None or rows_wanted > dataset.rows
    return _CHOOSERS[settings.kind](_Candidates(dataset, folder, max_bytes, free_memory, remote, read_again))


@dataclass(frozen=True)
class _Candidates:
    """The caches that there might be, and what speaks against each."""

    dataset: Dataset
    folder: str
    max_bytes: int
    free_memory: int
    remote: bool
    read_again: bool

    @property
    def decoded(self) -> DecodedCache:
        return DecodedCache(os.path.join(self.folder, "decoded"), self.max_bytes)

    @property
    def stored(self) -> StoredCache:
        return StoredCache(os.path.join(self.folder, "stored"), self.max_bytes)

    def against_decoded(self) -> str | None:
        """Why decoded rows should not be cached; None: they should."""
        unfixed = [field.name for field in self.dataset.schema if not field.fixed]
        if unfixed:
            return f"{unfixed[0]} has no fixed shape"
        if not self.remote and not any(map(_costs_decoding, self.dataset.schema)):
            return "its rows lie decoded on this machine's disk"
        size = self.dataset.rows * bytes_of_kept_row(self.dataset)
        if size > self.max_bytes:
            return f"its decoded rows take {_gigabytes(size)} of the {_gigabytes(self.max_bytes)} of disk that they may"
        if size > self.free_memory * _PART_OF_FREE_MEMORY:
            return f"its decoded rows take {_gigabytes(size)}, over half of {_gigabytes(self.free_memory)} of memory"
        return None

    def against_stored(self) -> str | None:
        """Why row groups should not be cached as they are stored; None: they should."""
        size = sum(group.bytes for group in self.dataset.row_groups)
        if not self.remote:
            return "it lies on a disk of this machine"
        if size > self.max_bytes:
            return f"its row groups take {_gigabytes(size)} of the {_gigabytes(self.max_bytes)} of disk that they may"
        return None


def _auto(candidates: _Candidates) -> CacheChoice:
    url, against = candidates.dataset.url, candidates.against_decoded()
    if not candidates.read_again:
        return CacheChoice(None, None, f"{url} is not cached: none of its rows is read twice.")
    if against is None:
        return CacheChoice(candidates.decoded, None, f"{url} is cached decoded: all its rows fit.")
    also_against = candidates.against_stored()
    if also_against is None:
        return CacheChoice(None, candidates.stored, f"{url} is cached as it is stored, not decoded: {against}.")
    return CacheChoice(None, None, f"{url} is not cached: {against}, and {also_against}.")


def _decoded(candidates: _Candidates) -> CacheChoice:
    return CacheChoice(candidates.decoded, None, f"{candidates.dataset.url} is cached decoded, as configured.")


def _stored(candidates: _Candidates) -> CacheChoice:
    return CacheChoice(None, candidates.stored, f"{candidates.dataset.url} is cached as it is stored, as configured.")


def _none(candidates: _Candidates) -> CacheChoice:
    return CacheChoice(None, None, f"{candidates.dataset.url} is not cached, as configured.")


_CHOOSERS: dict[str, Callable[[_Candidates], CacheChoice]] = {
    "auto": _auto,
    "decoded": _decoded,
    "stored": _stored,
    "none": _none,
}


def _costs_decoding(field: Field) -> bool:
    """Whether decoding a value is more than a copy."""
    return isinstance(field, ImageField | CompressedArrayField)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.3g} GB"


def _default_folder() -> str:
    return os.path.join(tempfile.gettempdir(), f"gan_lib-cache-{getpass.getuser()}")
