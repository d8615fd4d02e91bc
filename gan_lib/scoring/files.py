"""Which files a folder holds, what their results are called, and which task works on which. Opens no file."""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from gan_lib.core import storage
from gan_lib.core.errors import UserError
from gan_lib.preprocessing.sources.listing import Branch, Entry, files_of
from gan_lib.scoring.encoding.encoders import SUFFIX
from gan_lib.scoring.settings import OutputSettings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

TASKS_A_SLOT = 8
_TASK_SCHEMA = "task int, keys array<string>, stamps array<string>, outputs array<string>"


class File(NamedTuple):
    """An image file: its path below the input folder, its bytes, and what changes in a listing with its content."""

    key: str
    size: int
    stamp: str


def list_files(root: str) -> list[File]:
    """All files below ``root``, whatever they are called, in order of their names."""
    return sorted(_file(root, entry) for entry in files_of(Branch(root, whole=True)))


def require_apart(root: str, output: str) -> None:
    """Refuse an output that the next run would take for input.

    Raises:
        UserError: the output is the input folder or lies inside it.
    """
    output = storage.absolute(output)
    if f"{output.rstrip('/')}/".startswith(f"{root.rstrip('/')}/"):
        raise UserError(f"The output {output} lies inside the input {root}: results would be scored again. Move it.")


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


def deal(spark: SparkSession, files: Sequence[File], outputs: Sequence[str | None], tasks: int | None) -> DataFrame:
    """One row and one partition for each task; all tasks have about the same bytes, the largest files come first."""
    count = min(len(files), tasks or TASKS_A_SLOT * slots(spark))
    hands: list[list[int]] = [[] for _ in range(count)]
    weights = [(0, hand) for hand in range(count)]
    for index in sorted(range(len(files)), key=lambda i: -files[i].size):
        weight, hand = heapq.heappop(weights)
        hands[hand].append(index)
        heapq.heappush(weights, (weight + files[index].size, hand))
    rows = [
        (
            task,
            [files[i].key for i in hand],
            [files[i].stamp for i in hand],
            [outputs[i] for i in hand],
        )
        for task, hand in enumerate(hands)
    ]
    frame = spark.createDataFrame(rows, _TASK_SCHEMA)
    # Ranges over as many distinct values as partitions: each gets exactly one, which a hash would not do.
    return frame.repartitionByRange(count, "task")


def slots(spark: SparkSession) -> int:
    """How many tasks run at once."""
    try:
        return max(1, spark.sparkContext.defaultParallelism)
    except Exception:  # Spark Connect has no SparkContext, and each version its own way to say so
        return 16


def _file(root: str, entry: Entry) -> File:
    return File(entry.path[len(root) :].lstrip("/"), entry.size, f"{entry.size}:{entry.stamp}")
