"""One task: samples -> encoded patches and an status of each sample. No Spark in here; it runs in an executor.

Bytes are read once. Whatever is wrong with a sample becomes its status's reason; an exception out of here is a bug or
a broken machine, never a bad image.
"""

from __future__ import annotations

import hashlib
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from gan_lib.core import storage
from gan_lib.core.images import ImageRejected, Pixels, decode_enough
from gan_lib.dataset.schema import DatasetError, Schema
from gan_lib.preprocessing import sample_status
from gan_lib.preprocessing.cropping.patches import cut_alike, enough_for, resized
from gan_lib.preprocessing.duplicates import phash
from gan_lib.preprocessing.planning import WorkUnit
from gan_lib.preprocessing.publishing.fragments import SPLITS, PatchRow, write_fragment
from gan_lib.preprocessing.sample_status import REJECTED, SampleStatus
from gan_lib.preprocessing.samples import Item, Part
from gan_lib.preprocessing.settings import MEBIBYTE, PreprocessSettings, SplitShares

_FRAGMENT_BYTES = 64 * MEBIBYTE


@dataclass(frozen=True)
class TaskContext:
    """What every task of a run shares: the rules, the columns, and where finished work goes."""

    settings: PreprocessSettings
    schema: Schema
    images: tuple[str, ...]
    """the schema's image fields, in the order of a sample's parts"""
    folder: str
    """the run's staging folder"""
    bin_bits: int

    def status_url(self, task: int) -> str:
        """Where the task's statuses lie once it is done; that this file exists is the sign that it is."""
        return storage.join(self.folder, "done", f"{task:06d}.parquet")


def run_task(context: TaskContext, task: int, work_units: Sequence[WorkUnit]) -> None:
    """Do one task, unless an earlier attempt has. Its fragments count only once its statuses are written."""
    if storage.exists(context.status_url(task)):
        return
    cv2.setNumThreads(1)  # tasks, and the threads in them, share the cores already
    items = [item for work_unit in work_units for item in work_unit.read()]
    statuses: list[SampleStatus] = []
    shards = _ShardWriter(context)
    for status, rows in _in_order(
        lambda numbered: prepare(context, numbered[1], task << 32 | numbered[0]),
        enumerate(items),
        context.settings.work.threads,
    ):
        statuses.append(status)
        shards.add(rows)
    shards.flush()
    facts = {"fragments": shards.fragments, "bytes": shards.bytes_of_split, "rows": shards.rows_of_split}
    sample_status.write(context.status_url(task), statuses, facts)


def prepare(context: TaskContext, item: Item, number: int) -> tuple[SampleStatus, list[PatchRow]]:
    """One sample: its status, and its patches as rows (none for a reject)."""
    status = SampleStatus(number, item.name, item.fingerprint)
    try:
        return status, _rows(context, item, status)
    except ImageRejected as rejection:
        status.status, status.reason, status.detail = REJECTED, rejection.reason, rejection.message
    except DatasetError as error:  # a label or caption that its field cannot hold
        status.status, status.reason, status.detail = REJECTED, "bad-field", str(error)
    return status, []


def _rows(context: TaskContext, item: Item, status: SampleStatus) -> list[PatchRow]:
    settings = context.settings
    if item.problem is not None:
        reason, _, detail = item.problem.partition(": ")
        raise ImageRejected(reason, detail)
    contents = [read_part(part, settings.limits.max_bytes) for part in item.parts]
    status.content = content_hash(contents)
    split = split_of(status.content, settings.split)
    enough = partial(enough_for, settings.resize)
    decoded = [decode_enough(content, settings.limits, enough) for content in contents]
    status.height, status.width = decoded[0][1]
    if settings.duplicates.near:
        status.phash = phash.perceptual_hashes(decoded[-1][0])
    images = [resized(pixels, settings.resize.target(*size)) for pixels, size in decoded]
    seed = int.from_bytes(status.content, "little")
    patches = cut_alike(images, settings.patches, settings.filters, np.random.default_rng((settings.seed, seed)))
    values = {f.name: f.encode(item.values.get(f.name)) for f in context.schema if f.name not in context.images}
    status.split, status.patches, status.sums = SPLITS[split], len(patches), _sums(patches)
    return [
        PatchRow(split, _key(settings.seed, status.content, index), status.item, values | _encoded(context, alike))
        for index, alike in enumerate(patches)
    ]


def read_part(part: Part, max_bytes: int) -> bytes:
    """The bytes of one part; at most ``max_bytes + 1`` are read, enough to see the excess.

    Raises:
        ImageRejected: ``too-many-bytes`` when the listing says so already; ``unreadable`` when the store refuses.
    """
    if part.length > max_bytes:
        raise ImageRejected("too-many-bytes", f"{part.length} bytes, allowed are {max_bytes}")
    try:
        content = storage.read_range(part.url, part.offset, part.length if part.length >= 0 else max_bytes + 1)
    except Exception as error:  # each store has its own exceptions; all of them mean that this sample cannot be had
        raise ImageRejected("unreadable", f"{type(error).__name__}: {error}") from None
    if 0 <= part.length != len(content):
        raise ImageRejected("unreadable", f"{part.length} bytes were listed, {len(content)} are there")
    return content


def content_hash(contents: list[bytes]) -> bytes:
    """16 bytes that stand for the content of all parts of a sample."""
    digest = hashlib.blake2b(digest_size=16)
    for content in contents:
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.digest()


def split_of(content: bytes, shares: SplitShares) -> int:
    """The side of the train/validation/test line on which the image with this content hash lies, in any run."""
    digest = hashlib.blake2b(content, key=shares.salt.encode()[:64], digest_size=8).digest()
    place = int.from_bytes(digest, "little") / 2**64
    if place < shares.test:
        return SPLITS.index("test")
    if place < shares.test + shares.validation:
        return SPLITS.index("validation")
    return SPLITS.index("train")


def _key(seed: int, content: bytes, index: int) -> int:
    """The patch's place in the shuffled order: a function of seed, content and index, so of nothing that may change."""
    text = b"%d:%d:" % (seed, index) + content
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def _encoded(context: TaskContext, alike: list[Pixels]) -> dict[str, bytes]:
    return {name: context.schema[name].encode(patch) for name, patch in zip(context.images, alike, strict=True)}


def _sums(patches: list[list[Pixels]]) -> list[int]:
    """Levels and squares of every fourth pixel both ways: enough for means, at a sixteenth of the cost.

    Exact integers, so that statistics do not depend on who added them up in which order.
    """
    totals = np.zeros(7)
    for alike in patches:
        sample = np.ascontiguousarray(alike[-1][::4, ::4])
        levels = cv2.sumElems(sample)[:3]
        squares = cv2.sumElems(cv2.multiply(sample, sample, dtype=cv2.CV_32F))[:3]
        totals += (*levels, *squares, sample.shape[0] * sample.shape[1])
    return totals.astype(np.int64).tolist()


class _ShardWriter:
    """Collects rows and puts them away as fragments of bounded size."""

    def __init__(self, context: TaskContext) -> None:
        self.fragments: list[str] = []
        self.bytes_of_split = dict.fromkeys(SPLITS, 0)
        self.rows_of_split = dict.fromkeys(SPLITS, 0)
        self._context = context
        self._rows: list[PatchRow] = []
        self._bytes = 0

    def add(self, rows: list[PatchRow]) -> None:
        for row in rows:
            size = sum(len(value) for value in row.values.values() if isinstance(value, bytes))
            self.bytes_of_split[SPLITS[row.split]] += size
            self.rows_of_split[SPLITS[row.split]] += 1
            self._bytes += size
        self._rows.extend(rows)
        if self._bytes >= _FRAGMENT_BYTES:
            self.flush()

    def flush(self) -> None:
        if not self._rows:
            return
        # A name of its own: two attempts at one task, racing, never write the same file.
        url = storage.join(self._context.folder, "fragments", f"{uuid.uuid4().hex}.arrow")
        write_fragment(url, self._rows, self._context.schema, self._context.bin_bits)
        self.fragments.append(url)
        self._rows, self._bytes = [], 0


def _in_order(
    function: Callable[[tuple[int, Item]], tuple[SampleStatus, list[PatchRow]]],
    arguments: Iterable[tuple[int, Item]],
    threads: int,
) -> Iterator[tuple[SampleStatus, list[PatchRow]]]:
    """``map`` on a few threads, that runs ahead of its reader by no more than ``threads`` results."""
    waiting: deque[Future[tuple[SampleStatus, list[PatchRow]]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for argument in arguments:
            if len(waiting) >= 2 * threads:
                yield waiting.popleft().result()
            waiting.append(pool.submit(function, argument))
        while waiting:
            yield waiting.popleft().result()
