"""Where runs keep what is not published yet, and how what they leave behind is removed.

    DATASET/_staging/000002-plan-1f0c.../    the listing of one run, and bytes that are in no file of their own
                     000002-9ab3.../         plan, finished tasks, records of files: a successor goes on
    DATASET/_files/000002-9ab3.../           the files themselves, each in a folder of its own

A name begins with the version that is being made. Once that version is published, nobody can publish another under its
number, and whatever no manifest names may go. Before that, what shows no sign of life for a week is given up.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
import uuid
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
LIVING_SECONDS = 3600.0
"""Without a sign of life for longer than this nobody is at work; the clocks of two machines differ by less."""
_BEAT_SECONDS = 600.0
_ALIVE = "alive-"
_VERSION = re.compile(r"(\d{6,})-.+")


def staging_url(dataset_url: str, name: str) -> str:
    """The folder of a run's own records."""
    return storage.join(dataset_url, STAGING, name)


def files_url(dataset_url: str, name: str) -> str:
    """The folder of the files that a run writes for the dataset."""
    return storage.join(dataset_url, FILES, name)


@contextmanager
def alive(folders: Sequence[str]) -> Iterator[None]:
    """Leave a sign of life in each of these folders, now and every few minutes until the block ends.

    A block that is left by an exception leaves its last signs: a successor may soon go on there.
    """
    signs = [storage.join(folder, f"{_ALIVE}{uuid.uuid4().hex}.json") for folder in folders]
    for sign in signs:
        _beat(sign)
    ended = threading.Event()
    thread = threading.Thread(target=_beat_until, args=(ended, signs), name="signs of life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    for sign in signs:
        with contextlib.suppress(StoreUnavailable):  # it grows old by itself
            storage.remove_tree(sign)


def _beat_until(ended: threading.Event, signs: Sequence[str]) -> None:
    while not ended.wait(_BEAT_SECONDS):
        for sign in signs:
            with contextlib.suppress(StoreUnavailable):  # there is time for a few more
                _beat(sign)


def _beat(sign: str) -> None:
    write_commit_record(sign, {"time": time.time()})


def sweep(dataset_url: str, newest: int) -> None:
    """Remove what runs have left behind that nobody can publish, as version ``newest`` is there, or that is given up.

    Where a store cannot tell writers apart, one who is at work may still overwrite what another has published: there
    his files stay for as long as he may live. Raises what :func:`gan_lib.core.storage.write_atomic` raises.
    """
    if newest > 1:  # of what was to become its manifest; he who writes the newest may still be at it
        storage.sweep_folder(version_url(dataset_url, newest - 1))
    names = set(storage.list_names(storage.join(dataset_url, STAGING)))
    written = storage.list_names(storage.join(dataset_url, FILES))
    names |= {name for name in written if _version_of(name) == newest}  # by one whose records another has removed
    for name in sorted(names):
        if _may_go(dataset_url, name, newest):
            discard(dataset_url, name)


def _may_go(dataset_url: str, name: str, newest: int) -> bool:
    published = _version_of(name) <= newest
    if published and storage.tells_writers_apart(dataset_url):
        return True
    folder = staging_url(dataset_url, name)
    signs = [storage.join(folder, found) for found in storage.list_names(folder) if found.startswith(_ALIVE)]
    records = [record for record in map(read_commit_record, signs) if record is not None]
    silent = time.time() - max((float(record["time"]) for record in records), default=0.0)
    return silent > LIVING_SECONDS if published else bool(records) and silent > ABANDONED_SECONDS


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
    storage.sweep_temporaries(files)
    storage.remove_tree(staging_url(dataset_url, name))
    for parent in (FILES, STAGING):
        remove_empty_folder(storage.join(dataset_url, parent))


def _version_of(name: str) -> int:
    found = _VERSION.fullmatch(name)
    return int(found[1]) if found else 0  # an earlier release called its folders otherwise


def _named_files(dataset_url: str, version: int) -> set[str]:
    """The files below the dataset that its published versions name.

    ``version`` is asked for by name: a listing may not show yet what has just been published.
    """
    urls = {version_url(dataset_url, number) for number in (*published_versions(dataset_url), version)}
    manifests = [Manifest.load(url) for url in urls if is_committed(url)]
    return {path for manifest in manifests for path in manifest.elsewhere.values()}
