"""What each Spark task of a scoring job does: make requests of its rows, score them, say what became of each.

Bytes never cross between Python and the JVM where they need not: files are read and written here, in the worker.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa

from gan_lib.cluster.session import forget_zip_importers
from gan_lib.core import storage
from gan_lib.core.errors import Rejected
from gan_lib.core.images import Limits
from gan_lib.scoring.encoding.encoders import SUFFIX
from gan_lib.scoring.encoding.result_writer import ResultWriter, Tag
from gan_lib.scoring.inputs.reading import read_file
from gan_lib.scoring.model import Model, predictor_in_worker
from gan_lib.scoring.pipeline import UNAVAILABLE, Pipeline, Request
from gan_lib.scoring.results.rows import KEPT, REJECTED, SCORED, RowWriter
from gan_lib.scoring.results.tables import FOLDER, Tables
from gan_lib.scoring.settings import OutputSettings, TilingSettings

REPORT_SCHEMA = "report string"
"""What a task sends to the driver: one :class:`gan_lib.scoring.results.rows.Report`."""
# The columns of files, see gan_lib.scoring.inputs.files.
_FILE_LISTS = ("keys", "etags", "outputs", "problems", "beside")
_COUNTED_AT_ONCE = 256  # images; each count is a message to the driver


@dataclass(frozen=True)
class ScoreTask:
    """Everything a task needs; it travels to the workers."""

    model: Model
    output: OutputSettings
    tiling: TilingSettings
    limits: Limits
    settings: str
    """Digest of the settings that show in the images."""
    run: str
    """MLflow run of the job."""
    count: Callable[[int], None]
    """Told how many images are done, for the progress bar."""
    constants: Mapping[str, Any] = field(default_factory=dict)
    """What goes into the net beside each image, by the input's name; of an image the encoded bytes."""

    def run_on_files(self, root: str, commit: str, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Score rows of ``keys``, ``etags``, ``outputs``, ``problems`` and ``beside``: lists over files of ``root``.

        Rows of what became of them wait for the commit; one report comes out.
        """
        return self._score(self._requests_of_files(root, batches), commit)

    def run_on_rows(self, commit: str, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The same for rows of ``key``, ``content`` and, where more goes in, ``beside``: a struct by input."""
        return self._score(self._requests_of_rows(batches), commit)

    def _score(self, requests: Iterator[Request], commit: str) -> Iterator[pa.RecordBatch]:
        predictor = predictor_in_worker(self.model, self.tiling)
        writer = ResultWriter(self.output, self._lineage(), self.run, Tables(self.output.url).staging)
        pipeline = Pipeline(predictor, self.limits, writer.finish, writer.known)
        rows = RowWriter(Tables(self.output.url).staged_rows, commit)
        uncounted = 0
        for request in pipeline.run(requests):
            if request.reason == UNAVAILABLE:
                rows.add_unavailable(f"{request.key}: {request.message}")
            else:
                rows.add(self._row(request))
            uncounted += 1
            if uncounted == _COUNTED_AT_ONCE:
                self.count(uncounted)
                uncounted = 0
        self.count(uncounted)
        yield pa.RecordBatch.from_arrays([pa.array([rows.finish().to_json()])], ["report"])
        forget_zip_importers()

    def _requests_of_files(self, root: str, batches: Iterable[pa.RecordBatch]) -> Iterator[Request]:
        for batch in batches:
            for row in batch.to_pylist():
                for key, etag, output, problem, beside in zip(*(row[name] for name in _FILE_LISTS), strict=True):
                    read = partial(read_file, storage.join(root, key), self.limits, problem)
                    yield Request(key, read, partial(self._read_beside, dict(beside)), Tag(output, etag))

    def _read_beside(self, urls: Mapping[str, str]) -> dict[str, Any]:
        return {**self.constants, **{name: read_file(url, self.limits) for name, url in urls.items()}}

    def _requests_of_rows(self, batches: Iterable[pa.RecordBatch]) -> Iterator[Request]:
        for batch in batches:
            besides = batch.column("beside") if "beside" in batch.schema.names else [None] * len(batch)
            for key, content, beside in zip(batch.column("key"), batch.column("content"), besides, strict=True):
                name = key.as_py()
                tag = Tag(f"{name}{SUFFIX[self.output.format]}" if self.output.files else None)
                read = partial(_read_row, name, content, self.output)
                yield Request(name, read, partial(self._beside_of_row, beside), tag)

    def _beside_of_row(self, beside: pa.Scalar | None) -> Mapping[str, Any]:
        return self.constants if beside is None else {**self.constants, **beside.as_py()}

    def _lineage(self) -> dict[str, str]:
        model = self.model
        words = {"model": model.name, "version": model.version, "weights": model.digest[:12]}
        return {**words, "settings": self.settings}

    def _row(self, request: Request) -> dict[str, Any]:
        tag: Tag = request.tag
        rejected = request.reason is not None
        return {
            "key": request.key,
            "output": None if rejected else tag.output,
            "content": request.result,
            "status": REJECTED if rejected else KEPT if request.skipped else SCORED,
            "reason": request.reason,
            "message": request.message,
            "width": None if rejected else request.width,
            "height": None if rejected else request.height,
            "seconds": request.seconds,
            "source_sha256": tag.source_sha256,
            "source_etag": tag.source_etag,
            "model": self.model.name,
            "model_version": self.model.version,
            "settings": self.settings,
            "precision": None if rejected else tag.precision,
            "mode": None if rejected else tag.mode,
            "bits": None if rejected else tag.bits,
            "run": self.run,
            "scored_at": datetime.datetime.now(datetime.timezone.utc),
        }


def _read_row(name: str, content: pa.Scalar, output: OutputSettings) -> bytes:
    if output.files and not _is_path(name):
        raise Rejected("bad-name", "the key cannot be the path of a file below the output folder, in its plainest form")
    return content.as_py() or b""


def _is_path(name: str | None) -> bool:
    """Whether no other key can mean the same file, and the file lies below the output folder but not in the tables."""
    parts = (name or "").split("/")
    return not {"", ".", ".."} & {*parts} and "\0" not in (name or "") and parts[0].lower() != FOLDER
