"""Where runs keep what is not published yet, and how what they leave behind is removed.

    DATASET/_staging/000002-plan-1f0c.../    the listing of one run, and bytes that are in no file of their own
                     000002-9ab3.../         plan, finished tasks, records of files: a successor goes on
    DATASET/_files/000002-9ab3.../           the files themselves, each in a folder of its own

A name begins with the version that is being made. Once that version is published, nobody can publish another under its
number, and whatever no manifest names may go. Before that, what shows no sign of life for a week is given up.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from gan_lib.core import storage
from gan_lib.core.errors import StoreUnavailable
from gan_lib.core.stores.commit_record import read_commit_record, write_commit_record
from gan_lib.core.stores.local_folders import remove_empty_folder
from gan_lib.dataset.manifest import Manifest, is_committed, published_versions, version_url

STAGING = "_staging"
FILES = "_files"
"""Spark, Arrow and Petastorm pass names over that begin so."""

ABANDONED_SECONDS = 7 * 24 * 3600.0
"""Far more than the clocks of two machines differ."""
_BEAT_SECONDS = 600.0
_ALIVE = "alive.json"
_VERSION = re.compile(r"(\d{6,})-.+")


def staging_url(dataset_url: str, name: str) -> str:
    """The folder of a run's own records."""
    return storage.join(dataset_url, STAGING, name)


def files_url(dataset_url: str, name: str) -> str:
    """The folder of the files that a run writes for the dataset."""
    return storage.join(dataset_url, FILES, name)


@contextmanager
def alive(folders: Sequence[str]) -> Iterator[None]:
    """Leave a sign of life in each of these folders, now and every few minutes until the block ends."""
    for folder in folders:
        _beat(folder)
    ended = threading.Event()
    thread = threading.Thread(target=_beat_until, args=(ended, folders), name="signs of life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _beat_until(ended: threading.Event, folders: Sequence[str]) -> None:
    while not ended.wait(_BEAT_SECONDS):
        for folder in folders:
            try:
                _beat(folder)
            except StoreUnavailable:  # there is time for a thousand more
                continue


def _beat(folder: str) -> None:
    write_commit_record(storage.join(folder, _ALIVE), {"time": time.time()})


def sweep(dataset_url: str, newest: int) -> None:
    """Remove what runs have left behind that nobody can publish, as version ``newest`` is there, or that is given up.

    Raises what :func:`gan_lib.core.storage.write_atomic` raises.
    """
    for name in storage.list_names(storage.join(dataset_url, STAGING)):
        if _version_of(name) <= newest or _is_abandoned(staging_url(dataset_url, name)):
            discard(dataset_url, name)


def discard(dataset_url: str, name: str) -> None:
    """Remove all that a run has left behind but for files that a published version names."""
    files = files_url(dataset_url, name)
    named = _named_files(dataset_url, _version_of(name))
    kept = {path.split("/")[2] for path in named if path.startswith(f"{FILES}/{name}/")}
    if not kept:
        storage.remove_tree(files)
    for folder in storage.list_names(files):
        if folder not in kept:
            storage.remove_tree(storage.join(files, folder))
    storage.remove_tree(staging_url(dataset_url, name))
    for parent in (FILES, STAGING):
        remove_empty_folder(storage.join(dataset_url, parent))


def _version_of(name: str) -> int:
    found = _VERSION.fullmatch(name)
    return int(found[1]) if found else 0  # an earlier release called its folders otherwise


def _is_abandoned(folder: str) -> bool:
    record = read_commit_record(storage.join(folder, _ALIVE))
    return record is not None and time.time() - float(record["time"]) > ABANDONED_SECONDS


def _named_files(dataset_url: str, version: int) -> set[str]:
    """The files below the dataset that its published versions name.

    ``version`` is asked for by name: a listing may not show yet what has just been published.
    """
    urls = {version_url(dataset_url, number) for number in (*published_versions(dataset_url), version)}
    manifests = [Manifest.load(url) for url in urls if is_committed(url)]
    return {path for manifest in manifests for path in manifest.elsewhere.values()}
