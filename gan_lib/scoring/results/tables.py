"""The tables of results and rejects, and how parts of them are committed.

A run adds one or more commits. Tasks put rows aside; the commit record names their files and makes them count; then
the files are moved to where readers look, and a run that is killed before that leaves it to the next one. So whatever
lies in the tables is committed. A record and its rows cannot be told apart from another's: the names of files are
unique, and a record one of whose files is gone is none. Layout below the output folder::

    _tables/results/COMMIT.ID.parquet           scored, and kept from an earlier run
    _tables/rejects/COMMIT.ID.parquet           each with its reason
    _tables/{results,rejects}/no-rows.parquet   tells the columns of a table that has no rows yet
    _tables/commits/COMMIT.json                 the commit record: files, counts, model, settings
    _tables/_staging/                           what is not finished
    _tables/decisions/NUMBER.json               of incremental runs alone
    _tables/_lock, _tables/_locks/              of the run that is at work
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, fields
from functools import partial
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from gan_lib.core import storage
from gan_lib.core.errors import UserError
from gan_lib.core.stores.commit_record import create_commit_record, read_commit_record, write_commit_record
from gan_lib.scoring.results.rows import REJECTS, RESULTS, SIDES, Report, RowsFile, Summary, write_rows

Item = TypeVar("Item")
Result = TypeVar("Result")

FOLDER = "_tables"
"""Below the output folder; no result may lie in it."""
DECISIONS = "decisions"
_NO_ROWS = "no-rows.parquet"
_AT_WORK = "at-work"  # in the staging folder; a run that finds it comes after one that was killed
_AT_ONCE = 16  # requests to the store
_SMALL = 2**20  # bytes; a file up to this size is read in one request


class CommitRecord:
    """What a commit says of itself."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self.files = tuple(RowsFile(*file) for file in values["files"])
        self.summary = Summary(**{one.name: values[one.name] for one in fields(Summary) if one.name in values})

    def __getitem__(self, fact: str) -> Any:
        """One of the facts that it was committed with; None where it has no such fact."""
        return self._values.get(fact)


class Tables:
    """The tables below one output folder.

    ``check`` is called before anything is committed; it raises where this run may no longer write.
    """

    def __init__(self, output_url: str, check: Callable[[], None] = lambda: None) -> None:
        self._output = output_url
        self.url = storage.join(output_url, FOLDER)
        self._check = check

    @property
    def results(self) -> str:
        """URL of the table of results."""
        return storage.join(self.url, RESULTS)

    @property
    def rejects(self) -> str:
        """URL of the table of rejects."""
        return storage.join(self.url, REJECTS)

    @property
    def staging(self) -> str:
        """URL of the folder for what is not finished; the next run empties it."""
        return storage.join(self.url, "_staging")

    @property
    def staged_rows(self) -> str:
        """URL of the folder for rows that are not committed yet."""
        return storage.join(self.staging, "rows")

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """A run's work on them, while no other is at work. Files that a killed one was writing are removed first.

        Raises:
            UserError: an earlier gan_lib wrote them, whose rows would be found nowhere.
        """
        self._require_known_layout()
        if storage.list_names(self.staging):
            storage.sweep_temporaries(self._output)
        self._mark()
        try:
            yield
        except UserError:  # it ended by itself, and left no file half written
            storage.remove_tree(self.staging)
            raise
        storage.remove_tree(self.staging)

    def _mark(self) -> None:
        storage.write_atomic(storage.join(self.staging, _AT_WORK), b"")

    def _require_known_layout(self) -> None:
        old = storage.exists(storage.join(self.url, "stream_state.json"))
        if old or any(name.startswith("commit=") for side in SIDES for name in self._listed(side)):
            raise UserError(
                f"{self.url} was written by an earlier gan_lib, whose tables are laid out in another way: remove that "
                "folder, and images whose results are there are recognised and kept; or choose another output.url."
            )

    def commit(self, name: str, reports: Iterable[Report], facts: Mapping[str, Any]) -> Summary:
        """Make the rows of ``reports`` the commit ``name``, in place of what it held; and return what they say.

        ``facts`` go into its record, beside the counts. Once the record is written the rows count. No rows make no new
        commit.

        Raises:
            UserError: another run has taken over.
        """
        reports = list(reports)
        summary = sum((report.summary for report in reports), Summary())
        files = [file for report in reports for file in report.files]
        self._check()
        before = self.record(name)
        url, values = self._record_url(name), {**facts, **asdict(summary), "files": files}
        if before is not None:
            write_commit_record(url, values)
            _each(self._remove_rows, before.files)
        elif files and not create_commit_record(url, values):
            raise UserError(f"Another run has committed {name} to {self.url} meanwhile; it will do what is left.")
        _each(self._move, files)
        return summary

    def record(self, name: str) -> CommitRecord | None:
        """The record of a commit, None where there is no such commit."""
        values = read_commit_record(self._record_url(name))
        return None if values is None else CommitRecord(values)

    def committed(self) -> list[str]:
        """The names of all commits that a listing shows."""
        names = storage.list_names(storage.join(self.url, "commits"))
        return [name.removesuffix(".json") for name in names if name.endswith(".json")]

    def is_committed(self, name: str) -> bool:
        """Whether there is such a commit, listed or not."""
        return storage.exists(self._record_url(name))

    def recover(self, names: Iterable[str]) -> dict[str, CommitRecord]:
        """Make the tables hold the rows of the commits ``names`` and no others; return those that there are.

        What a killed run has committed is moved to its place, what it has not committed is removed, and so are all
        other commits: they belong to another cut of the input.
        """
        records = self._records(sorted(set(names)))
        _each(self._remove_record, [name for name in self.committed() if name not in records])
        found = self._whole(records)
        paths = {file.path for record in found.values() for file in record.files}
        for side in SIDES:
            others = [name for name in self._listed(side) if f"{side}/{name}" not in paths and name != _NO_ROWS]
            _each(storage.remove_tree, [storage.join(self.url, side, name) for name in others])
            write_rows(storage.join(self.url, side, _NO_ROWS), [])
        storage.remove_tree(self.staging)
        storage.sweep_uploads(self._output)
        self._mark()
        return found

    def rows(self, records: Iterable[CommitRecord], columns: Sequence[str]) -> list[pa.Table]:
        """Some columns of all rows of commits, file by file.

        Raises:
            UserError: a file is damaged.
        """
        files = [file for record in records for file in record.files]
        return _each(partial(self._read, columns=list(columns)), files)

    def _read(self, file: RowsFile, columns: list[str]) -> pa.Table:
        url = storage.join(self.url, file.path)
        try:
            if file.bytes <= _SMALL:
                return pq.read_table(io.BytesIO(storage.read_bytes(url)), columns=columns)
            with storage.open_file(url) as opened:
                return pq.ParquetFile(opened).read(columns)
        except (FileNotFoundError, pa.ArrowInvalid) as error:
            raise UserError(f"{url} was committed and is damaged ({error}): remove it, and run again.") from None

    def _records(self, names: Sequence[str]) -> dict[str, CommitRecord]:
        records = _each(self.record, names)
        return {name: record for name, record in zip(names, records, strict=True) if record is not None}

    def _whole(self, records: Mapping[str, CommitRecord]) -> dict[str, CommitRecord]:
        """Those of which every file is there, moved to its place now if need be; the others are removed."""
        in_place = {f"{side}/{name}" for side in SIDES for name in self._listed(side)}
        staged = {f"{side}/{name}" for side in SIDES for name in storage.list_names(self._staged(side))}
        sure = in_place - staged  # what is in both places was cut short between them
        whole = {}
        for name, record in records.items():
            if all(_each(self._is_there, [file for file in record.files if file.path not in sure])):
                whole[name] = record
            else:
                self._remove_record(name)
        return whole

    def _is_there(self, file: RowsFile) -> bool:
        try:
            self._move(file)
        except FileNotFoundError:
            return storage.exists(storage.join(self.url, file.path))
        return True

    def _move(self, file: RowsFile) -> None:
        storage.move_file(storage.join(self._staged(file.side), file.name), storage.join(self.url, file.path))

    def _remove_rows(self, file: RowsFile) -> None:
        storage.remove_tree(storage.join(self.url, file.path))

    def _remove_record(self, name: str) -> None:
        storage.remove_tree(self._record_url(name))

    def _record_url(self, name: str) -> str:
        return storage.join(self.url, "commits", f"{name}.json")

    def _staged(self, side: str) -> str:
        return storage.join(self.staged_rows, side)

    def _listed(self, side: str) -> list[str]:
        return storage.list_names(storage.join(self.url, side))


def _each(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """``work`` on all ``items``, some at once; its results in their order."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(work, items))
