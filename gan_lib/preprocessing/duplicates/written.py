"""The samples that became rows, as the files of statuses hold them: among these duplicates are sought."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gan_lib.preprocessing import sample_status
from gan_lib.preprocessing.duplicates.matching import COLUMNS
from gan_lib.preprocessing.duplicates.thumbnail import SIDE, Thumbnails
from gan_lib.preprocessing.sample_status import WRITTEN


class WrittenSamples:
    """Hashes, names and sizes: about 250 bytes a sample. Thumbnails stay in the files until they are asked for."""

    def __init__(self, known: Sequence[str], new: Sequence[str]) -> None:
        """Read the statuses of earlier versions and those of this run."""
        self._urls = [*known, *new]
        tables = [_written(url, COLUMNS) for url in self._urls]
        self.known = _joined(tables[: len(known)])
        self.new = _joined(tables[len(known) :])
        self._starts = np.cumsum([0, *(len(table) for table in tables)])

    @property
    def names(self) -> pa.ChunkedArray:
        """Of all samples, those known first."""
        return pa.chunked_array([*self.known["name"].chunks, *self.new["name"].chunks], pa.string())

    def thumbnails(self, rows: NDArray[np.int64]) -> Thumbnails:
        """Of samples by row, those known first; black where a version of old kept none. 4 KiB a row."""
        found = np.zeros((len(rows), SIDE * SIDE), np.uint8)
        files = np.searchsorted(self._starts, rows, "right") - 1
        for file in np.unique(files).tolist():
            wanted = np.flatnonzero(files == file)
            column = _written(self._urls[file], ["thumbnail"])["thumbnail"]
            for number, row in zip(wanted.tolist(), (rows[wanted] - self._starts[file]).tolist(), strict=True):
                if (content := column[row].as_buffer()) is not None:
                    found[number] = np.frombuffer(content, np.uint8)
        return found.reshape(-1, SIDE, SIDE)


def _written(url: str, columns: list[str]) -> pa.Table:
    table = sample_status.read(url, [*columns, "status"]).replace_schema_metadata(None)
    return _joined([table.filter(pc.equal(table["status"], WRITTEN))], columns)


def _joined(tables: Sequence[pa.Table], columns: Sequence[str] = COLUMNS) -> pa.Table:
    """One table with these columns; those that a version of old lacks are null."""
    empty = sample_status.ARROW_SCHEMA.empty_table().select(columns)
    return pa.concat_tables([empty, *tables], promote_options="default").select(columns)
