"""Preprocessing in this thread instead of Spark's: each request to a store is then made where a test can see it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from gan_lib.core import storage
from gan_lib.preprocessing.preprocess import Published, preprocess
from gan_lib.preprocessing.settings import PreprocessSettings


class Frame:
    """What is asked of a DataFrame, done at once."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches

    def mapInArrow(self, work: Callable[[Any], Any], columns: str) -> Frame:
        return Frame(work(self._batches))

    def collect(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(**row) for batch in self._batches for row in batch.to_pylist()]


def inline(spark: object, pieces: Sequence[Any], work: Callable[[Any], Any], columns: str) -> Frame:
    return Frame(batch for piece in pieces for batch in work(piece))


@contextmanager
def without_spark() -> Iterator[None]:
    """Nor with pauses before a store is asked again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "FIRST_PAUSE_SECONDS", 0.0)
        for module in ("run", "publishing.merging", "sources.folder", "sources.tar", "sources.manifest"):
            patch.setattr(f"gan_lib.preprocessing.{module}.parallelize", inline)
        patch.setattr("gan_lib.preprocessing.run.watched", lambda *_: contextlib.nullcontext())
        yield


def preprocess_inline(settings: PreprocessSettings) -> Published:
    """What :func:`preprocess` does, within :func:`without_spark`."""
    return preprocess(None, settings)  # type: ignore[arg-type]
