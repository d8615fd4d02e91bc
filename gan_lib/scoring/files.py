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
from gan_lib.scoring.settings import OutputSettings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

TASKS_A_SLOT = 8
_TASK_SCHEMA = (
    "task int, keys array<string>, etags array<string>, outputs array<string>, beside array<map<string, string>>"
)


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


def list_files(root: str, folders: Mapping[str, str] | None = None) -> list[File]:
    """All files below ``root``, whatever they are called, in order of their names.

    ``folders``: input of the model -> folder that has a file of the same path for each; where there is none, one whose
    path differs in the suffix alone.
    """
    files = sorted(_files_in(root))
    for name, folder in (folders or {}).items():
        others = sorted(_files_in(folder), reverse=True)
        by_stem = {_stem(other.key): other for other in others} | {other.key: other for other in others}
        for index, file in enumerate(files):
            other = by_stem.get(file.key) or by_stem.get(_stem(file.key))
            if other is not None:
                pair = (name, storage.join(folder, other.key))
                files[index] = file._replace(beside=(*file.beside, pair), etag=f"{file.etag} {name}={other.etag}")
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

    Where two inputs differ only in their suffix, the later one keeps its own and gets the format's as well. ``taken``
    names what earlier runs have written. All None where no files are written.
    """
    if not output.files:
        return [None] * len(keys)
    suffix = SUFFIX[output.format]
    used = {name.lower() for name in taken}  # some disks do not tell a.png from A.png
    names: list[str | None] = []
    for key in keys:
        name = os.path.splitext(key)[0] + suffix
        while name.lower() in used:
            key = f"{key}{suffix}"
            name = key
        used.add(name.lower())
        names.append(name)
    return names


def in_tasks(spark: SparkSession, files: Sequence[File], outputs: Sequence[str | None], tasks: int | None) -> DataFrame:
    """One row and one partition for each task; all tasks have about the same bytes, the largest files come first."""
    count = min(len(files), tasks or TASKS_A_SLOT * default_parallelism(spark))
    rows = [
        (
            task,
            [files[i].key for i in indices],
            [files[i].etag for i in indices],
            [outputs[i] for i in indices],
            [dict(files[i].beside) for i in indices],
        )
        for task, indices in enumerate(bin_pack([file.size for file in files], count))
    ]
    frame = spark.createDataFrame(rows, _TASK_SCHEMA)
    # Ranges over as many distinct values as partitions: each gets exactly one, which a hash would not do.
    return frame.repartitionByRange(count, "task")


def _files_in(root: str) -> Iterator[File]:
    for entry in files_of(Branch(root, whole=True)):
        yield File(entry.key(root), entry.size, f"{entry.size}:{entry.etag}")


def _stem(key: str) -> str:
    return os.path.splitext(key)[0]
