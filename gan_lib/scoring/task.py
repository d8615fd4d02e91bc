"""What each Spark task of a scoring job does: draw images from its rows, score them, say what became of each.

Bytes never cross between Python and the JVM where they need not: files are read and written here, in the worker.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from gan_lib.cluster.session import forget_zip_importers
from gan_lib.core import storage
from gan_lib.core.images import ImageRejected, Limits
from gan_lib.scoring.encoding import encoders as encoding
from gan_lib.scoring.encoding import provenance as stamps
from gan_lib.scoring.model import Model, predictor_in_worker
from gan_lib.scoring.pipeline import Pipeline, Request
from gan_lib.scoring.results import KEPT, REJECTED, SCHEMA, SCORED, Tables
from gan_lib.scoring.settings import OutputSettings, TilingSettings

_ROWS_A_BATCH = 256
_BYTES_A_BATCH = 32 * 2**20


@dataclass
class Tag:
    """What the job knows of an image beside its pixels."""

    output: str | None
    """Path below the output folder; None where results go into the table."""
    source_stamp: str | None = None
    source_sha256: str | None = None


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

    def run_on_files(self, root: str, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of ``keys``, ``stamps`` and ``outputs``, each a list over files below ``root``."""
        return self._score(_images_of_files(root, self.limits, batches))

    def run_on_rows(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of ``key`` and ``content``."""
        return self._score(_images_of_rows(self.output, batches))

    def _score(self, images: Iterator[Request]) -> Iterator[pa.RecordBatch]:
        generator = predictor_in_worker(self.model, self.tiling)
        pipeline = Pipeline(generator, self.limits, self._finish, self._known)
        rows: list[dict[str, Any]] = []
        size = 0
        for request in pipeline.run(images):
            rows.append(self._row(request))
            size += len(rows[-1]["content"] or b"")
            if len(rows) >= _ROWS_A_BATCH or size >= _BYTES_A_BATCH:
                yield self._batch(rows)
                rows, size = [], 0
        if rows:
            yield self._batch(rows)
        forget_zip_importers()

    def _known(self, request: Request) -> bool:
        """Whether the very result is there already, made from the same content in the same way."""
        tag: Tag = request.tag
        tag.source_sha256 = hashlib.sha256(request.content).hexdigest()
        if tag.output is None:
            return False
        found = stamps.read(storage.join(self.output.url, tag.output))
        if found is None or any(found.get(key) != value for key, value in self._stamp(request).items()):
            return False
        request.width, request.height = int(found["width"]), int(found["height"])
        return True

    def _finish(self, request: Request) -> None:
        assert request.canvas is not None
        tag: Tag = request.tag
        stamp = {**self._stamp(request), "width": str(request.width), "height": str(request.height), "run": self.run}
        if tag.output is None:
            request.result = encoding.to_bytes(request.canvas, self.output, stamp)
        else:
            url, scratch = storage.join(self.output.url, tag.output), Tables(self.output.url).staging
            encoding.to_file(request.canvas, url, self.output, stamp, scratch)

    def _stamp(self, request: Request) -> stamps.Stamp:
        return {
            "model": self.model.name,
            "version": self.model.version,
            "weights": self.model.digest[:12],
            "settings": self.settings,
            "source": request.tag.source_sha256,
        }

    def _row(self, request: Request) -> dict[str, Any]:
        tag: Tag = request.tag
        rejected = request.reason is not None
        return {
            "key": request.key,
            "output": None if rejected else tag.output,
            "content": request.result,
            "status": REJECTED if rejected else KEPT if request.skipped else SCORED,
            "reason": request.reason,
            "detail": request.detail,
            "width": None if rejected else request.width,
            "height": None if rejected else request.height,
            "seconds": request.seconds,
            "source_sha256": tag.source_sha256,
            "source_stamp": tag.source_stamp,
            "model": self.model.name,
            "model_version": self.model.version,
            "settings": self.settings,
            "run": self.run,
            "scored_at": datetime.datetime.now(datetime.timezone.utc),
        }

    def _batch(self, rows: list[dict[str, Any]]) -> pa.RecordBatch:
        self.count(len(rows))
        return pa.RecordBatch.from_pylist(rows, schema=SCHEMA)


def _images_of_files(root: str, limits: Limits, batches: Iterable[pa.RecordBatch]) -> Iterator[Request]:
    for batch in batches:
        for row in batch.to_pylist():
            for key, source_stamp, output in zip(row["keys"], row["stamps"], row["outputs"], strict=True):
                url = storage.join(root, key)
                yield Request(key, partial(_read_file, url, limits), Tag(output, source_stamp))


def _images_of_rows(output: OutputSettings, batches: Iterable[pa.RecordBatch]) -> Iterator[Request]:
    for batch in batches:
        for key, content in zip(batch.column("key"), batch.column("content"), strict=True):
            name = key.as_py()
            tag = Tag(f"{name}{encoding.SUFFIX[output.format]}" if output.files else None)
            yield Request(name, partial(_read_row, name, content, output), tag)


def _read_file(url: str, limits: Limits) -> bytes:
    """The file's bytes, but never more than one over the limit, and never of something that is no file."""
    fs, path = storage.open_store(url)
    if storage.is_local(url) and not stat.S_ISREG(os.stat(path).st_mode):
        raise ImageRejected("not-a-file", "it is a pipe, a socket or a device")
    with fs.open(path, "rb") as file:
        return bytes(file.read(limits.max_bytes + 1))


def _read_row(name: str, content: pa.Scalar, output: OutputSettings) -> bytes:
    if output.files and (not name or name.startswith("/") or ".." in name.split("/") or "\0" in name):
        raise ImageRejected("bad-name", "the key cannot be the name of a file below the output folder")
    return content.as_py() or b""
