"""The files and folders that a job's settings name, and what the driver finds at each of them."""

from __future__ import annotations

import contextlib
import os
import typing
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Annotated, Any

from pydantic import BaseModel

from gan_lib.core import storage
from gan_lib.core.errors import MachineInTrouble, StoreUnavailable, UserError
from gan_lib.core.listing import Branch, files_of
from gan_lib.core.settings.annotations import ChosenByName, UrlMark, annotation_of

# All other URLs in the settings of jobs are read.
_WRITTEN = frozenset(("output", "output.url", "evaluation.output", "checkpoint.folder", "start.folder"))
_FILES_TO_TRY = 3


@dataclass(frozen=True)
class Location:
    """A file or folder that a key of the settings names, as far as the driver knows it."""

    key: str
    url: str
    written: bool
    by_executors: bool = True
    """False: the driver alone goes there."""
    files: tuple[str, ...] = ()
    """Of an input: some of its files, which the driver could read."""
    probe_file: str = ""
    """Of an output: what the driver wrote there, for the executors to read."""
    token: str = ""
    """The content of ``probe_file``."""
    remedy: str = "name a store that all machines reach"
    """What to do where executors do not see what the driver sees."""

    def __str__(self) -> str:
        return f"{self.key} = {self.url}"


def locations_in(settings: BaseModel, prefix: str = "") -> list[Location]:
    """Every URL that is set anywhere in ``settings``, with its dotted key."""
    found = []
    for name, field in type(settings).model_fields.items():
        value, key = getattr(settings, name), f"{prefix}.{name}" if prefix else name
        if any(isinstance(mark, ChosenByName) for mark in field.metadata) and hasattr(value, "settings"):
            value = value.settings  # in the file its keys stand beside the name
        found += _locations(value, annotation_of(field), key)
    return found


def _locations(value: Any, annotation: Any, key: str) -> list[Location]:
    if isinstance(value, BaseModel):
        return locations_in(value, key)
    parts = typing.get_args(annotation)
    if isinstance(value, Mapping):
        return [one for name, each in value.items() for one in _locations(each, parts[-1], f"{key}.{name}")]
    if isinstance(value, str) and _is_url(annotation):
        return [Location(key, storage.absolute(value), key in _WRITTEN)]
    return []


def _is_url(annotation: Any) -> bool:
    """Whether an annotation is :data:`Url`, or a union with it."""
    parts = typing.get_args(annotation)
    if typing.get_origin(annotation) is Annotated and any(isinstance(mark, UrlMark) for mark in parts[1:]):
        return True
    return any(_is_url(part) for part in parts)


@contextmanager
def examined(locations: Sequence[Location], problems: list[str]) -> Iterator[list[Location]]:
    """Look at each location from the driver: those that are in order, ready for the executors to look at too.

    A sentence on each other one goes to ``problems``. What is written for the executors to find is taken away again
    when the block ends, and with it the local folders that were not there before.
    """
    with contextlib.ExitStack() as afterwards:
        ready = []
        for location in locations:
            try:
                if location.written:
                    ready.append(afterwards.enter_context(_with_probe_file(location)))
                else:
                    ready.append(replace(location, files=_some_files(location)))
            except (FileNotFoundError, NotADirectoryError):
                problems.append(f"{location} is not there: put the data there, or name the place where it is.")
            except (StoreUnavailable, MachineInTrouble, UserError, OSError, ValueError) as error:
                doing = "write to" if location.written else "read"
                problems.append(f"{location}: the driver cannot {doing} it ({error}): {_remedy(location)}")
        yield ready


def _remedy(location: Location) -> str:
    if location.written:
        return "give the user of the job the right to write there, or name another place."
    return "give the user of the job the right to read it, or name another place."


def _some_files(location: Location) -> tuple[str, ...]:
    """A few files of a folder, each of which can be read; none of an empty folder; the file itself where it is one."""
    url = location.url
    if not storage.is_folder(url):
        storage.read_range(url, 0, 1)
        return (url,)
    files = tuple(entry.url for entry in islice(files_of(Branch(url, whole=True)), _FILES_TO_TRY))
    for file in files:
        storage.read_range(file, 0, 1)
    return files


@contextmanager
def _with_probe_file(location: Location) -> Iterator[Location]:
    token = uuid.uuid4().hex
    # The dot keeps it from Spark, Arrow, Petastorm and our own listings, should the doctor be killed.
    probe_file = storage.join(location.url, f".doctor-{token[:12]}")
    missing = _missing_folders(location.url)
    try:
        try:
            storage.create(probe_file, token.encode())
        except FileNotFoundError:  # a store with real folders, reached by a client that makes none
            storage.make_folder(location.url)
            storage.create(probe_file, token.encode())
        yield replace(location, probe_file=probe_file, token=token)
    finally:
        with contextlib.suppress(OSError):
            storage.remove_tree(probe_file)
            for folder in missing:
                os.rmdir(folder)


def _missing_folders(url: str) -> list[str]:
    """Local folders that are to be made for ``url``, the lowest first."""
    missing: list[str] = []
    folder = storage.absolute(url) if storage.is_local(url) else ""
    while folder and not os.path.exists(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    return missing
