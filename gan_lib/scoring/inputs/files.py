"""Which files a folder holds, what their results are called, and which task scores which. Opens no file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from gan_lib.cluster.bin_packing import bin_pack
from gan_lib.cluster.slots import default_parallelism
from gan_lib.core import storage
from gan_lib.core.errors import UserError
from gan_lib.core.listing import Branch, files_of
from gan_lib.scoring.encoding.encoders import SUFFIX
from gan_lib.scoring.results.tables import FOLDER
from gan_lib.scoring.settings import OutputSettings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

TASKS_A_SLOT = 8
_TASK_SCHEMA = (
    "task int, keys array<string>, etags array<string>, outputs array<string>, problems array<string>, "
    "beside array<map<string, string>>"
)
_NO_NAMES = ("", ".", "..")  # of folders on a disk; an object store may have keys with such parts


class File(NamedTuple):
    """An image file, and what goes into the net beside it."""

    key: str
    """Its path below the input folder."""
    size: int
    """In bytes."""
    etag: str
    """Changes in a listing when the content does, or that of a file beside it."""
    beside: tuple[tuple[str, str], ...] = ()
    """(input of the model, URL of its file)."""
    problem: str | None = None
    """Why it cannot be read as it is called."""


def list_files(root: str, folders: Mapping[str, str] | None = None) -> list[File]:
    """All files below ``root``, whatever they are called, in order of their names.

    ``folders``: input of the model -> folder that has a file of the same path for each; where there is none, one whose
    path differs in the suffix alone.
    """
    files = sorted(_files_in(root))
    for name, folder in (folders or {}).items():
        others = sorted((other for other in _files_in(folder) if other.problem is None), reverse=True)
        by_stem = {_stem(other.key): other for other in others} | {other.key: other for other in others}
        for index, file in enumerate(files):
            other = by_stem.get(file.key) or by_stem.get(_stem(file.key))
            if other is not None:
                pair = (name, storage.join(folder, other.key))
                files[index] = file._replace(beside=(*file.beside, pair), etag=f"{file.etag} {name}={other.etag}")
    return _apart(files)


def _apart(files: list[File]) -> list[File]:
    """The files, no two of one key: that of a name which is no text may spell another's name."""
    used = {file.key for file in files if file.problem is None}
    for index, file in enumerate(files):
        if file.problem is not None:
            key = file.key
            while key in used:
                key += "~"
            used.add(key)
            files[index] = file._replace(key=key)
    return files


def require_apart(roots: Iterable[str], output: str) -> None:
    """Refuse an output that the next run would take for input.

    Raises:
        UserError: the output is one of the input folders or lies inside it.
    """
    output = storage.absolute(output)
    for root in roots:
        if f"{output.rstrip('/')}/".startswith(f"{root.rstrip('/')}/"):
            raise UserError(
                f"The output {output} lies inside the input {root}: results would be scored again. Move it."
            )


def name_outputs(keys: Sequence[str], output: OutputSettings, taken: Iterable[str] = ()) -> list[str | None]:
    """A path below the output folder for each key: the same name with the format's suffix.

    Where two inputs differ only in their suffix, the later one keeps its own and gets the format's as well. A folder
    that is called like a result, or like the tables, gets another name. ``taken`` names what earlier runs have written.
    All None where no files are written.
    """
    if not output.files:
        return [None] * len(keys)
    names = _Names(SUFFIX[output.format], taken)
    folders = [names.folder(os.path.dirname(key)) for key in keys]  # all before the files
    return [names.file(folder, os.path.basename(key)) for folder, key in zip(folders, keys, strict=True)]


class _Names:
    """Paths that are in use below an output folder. Some disks do not tell a.png from A.png."""

    def __init__(self, suffix: str, taken: Iterable[str]) -> None:
        self._suffix = suffix
        self._files = {FOLDER.lower()}  # not a file, but nothing may lie below it
        self._folders: set[str] = set()
        self._known = {"": ""}
        for path in taken:
            self._files.add(path.lower())
            while path := path.rpartition("/")[0]:
                self._folders.add(path.lower())

    def folder(self, path: str) -> str:
        """Where the results of an input folder go."""
        if path not in self._known:
            above, _, name = path.rpartition("/")
            above = self.folder(above)
            name = f"_{name}" if name in _NO_NAMES else name
            while f"{above}{name}".lower() in self._files:
                name += ".folder"
            self._folders.add(f"{above}{name}".lower())
            self._known[path] = f"{above}{name}/"
        return self._known[path]

    def file(self, folder: str, name: str) -> str:
        """Where the result of the input ``name`` goes; ``folder`` is that of the results."""
        path = f"{folder}{os.path.splitext(name)[0]}{self._suffix}"
        while path.lower() in self._files or path.lower() in self._folders:
            name += self._suffix
            path = f"{folder}{name}"
        self._files.add(path.lower())
        return path


def in_tasks(spark: SparkSession, files: Sequence[File], outputs: Sequence[str | None], tasks: int | None) -> DataFrame:
    """One row and one partition for each task; all tasks have about the same bytes, the largest files come first."""
    count = min(len(files), tasks or TASKS_A_SLOT * default_parallelism(spark))
    rows = [
        (
            task,
            [files[i].key for i in indices],
            [files[i].etag for i in indices],
            [outputs[i] for i in indices],
            [files[i].problem for i in indices],
            [dict(files[i].beside) for i in indices],
        )
        for task, indices in enumerate(bin_pack([file.size for file in files], count))
    ]
    frame = spark.createDataFrame(rows, _TASK_SCHEMA)
    # Ranges over as many distinct values as partitions: each gets exactly one, which a hash would not do.
    return frame.repartitionByRange(count, "task")


def _files_in(root: str) -> Iterator[File]:
    for entry in files_of(Branch(root, whole=True)):
        problem = entry.problem
        message = None if problem is None else problem.message
        yield File(entry.key(root), entry.size, f"{entry.size}:{entry.etag}", problem=message)


def _stem(key: str) -> str:
    return os.path.splitext(key)[0]
