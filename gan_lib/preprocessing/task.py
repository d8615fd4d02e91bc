"""One task: samples -> encoded patches and an account of each sample. No Spark in here; it runs in an executor.

Bytes are read once. Whatever is wrong with a sample becomes its account's reason; an exception out of here is a bug or
a broken machine, never a bad picture.
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
from gan_lib.core.images import PictureRejected, Pixels, decode_enough
from gan_lib.dataset.schema import DatasetError, Schema
from gan_lib.preprocessing import sample_status as accounts
from gan_lib.preprocessing.cropping.patches import cut_alike, enough_for, resized
from gan_lib.preprocessing.duplicates import phash as looks
from gan_lib.preprocessing.planning import Grain
from gan_lib.preprocessing.publishing.fragments import SPLITS, PatchRow, write_fragment
from gan_lib.preprocessing.sample_status import REJECTED, Account
from gan_lib.preprocessing.samples import Item, Part
from gan_lib.preprocessing.settings import MEBIBYTE, PreprocessSettings, SplitShares

_FRAGMENT_BYTES = 64 * MEBIBYTE


@dataclass(frozen=True)
class Workshop:
    """What every task of a run shares: the rules, the columns, and where finished work goes."""

    settings: PreprocessSettings
    schema: Schema
    pictures: tuple[str, ...]
    """the schema's picture fields, in the order of a sample's parts"""
    folder: str
    """the run's staging folder"""
    bin_bits: int

    def account_url(self, task: int) -> str:
        """Where the task's accounts lie once it is done; that this file exists is the sign that it is."""
        return storage.join(self.folder, "done", f"{task:06d}.parquet")


def run_task(workshop: Workshop, task: int, grains: Sequence[Grain]) -> None:
    """Do one task, unless an earlier attempt has. Its fragments count only once its accounts are written."""
    if storage.exists(workshop.account_url(task)):
        return
    cv2.setNumThreads(1)  # tasks, and the threads in them, share the cores already
    items = [item for grain in grains for item in grain.read()]
    ledger: list[Account] = []
    shelf = _Shelf(workshop)
    for account, rows in _in_order(
        lambda numbered: prepare(workshop, numbered[1], task << 32 | numbered[0]),
        enumerate(items),
        workshop.settings.work.threads,
    ):
        ledger.append(account)
        shelf.add(rows)
    shelf.flush()
    facts = {"fragments": shelf.fragments, "bytes": shelf.bytes_of_split, "rows": shelf.rows_of_split}
    accounts.write(workshop.account_url(task), ledger, facts)


def prepare(workshop: Workshop, item: Item, number: int) -> tuple[Account, list[PatchRow]]:
    """One sample: its account, and its patches as rows (none for a reject)."""
    account = Account(number, item.name, item.fingerprint)
    try:
        return account, _rows(workshop, item, account)
    except PictureRejected as rejection:
        account.status, account.reason, account.detail = REJECTED, rejection.reason, rejection.detail
    except DatasetError as error:  # a label or caption that its field cannot hold
        account.status, account.reason, account.detail = REJECTED, "bad-field", str(error)
    return account, []


def _rows(workshop: Workshop, item: Item, account: Account) -> list[PatchRow]:
    settings = workshop.settings
    if item.problem is not None:
        reason, _, detail = item.problem.partition(": ")
        raise PictureRejected(reason, detail)
    contents = [read_part(part, settings.limits.max_bytes) for part in item.parts]
    account.content = content_hash(contents)
    split = split_of(account.content, settings.split)
    enough = partial(enough_for, settings.resize)
    decoded = [decode_enough(content, settings.limits, enough) for content in contents]
    account.height, account.width = decoded[0][1]
    if settings.duplicates.near:
        account.looks = looks.perceptual_hashes(decoded[-1][0])
    pictures = [resized(pixels, settings.resize.target(*size)) for pixels, size in decoded]
    seed = int.from_bytes(account.content, "little")
    patches = cut_alike(pictures, settings.patches, settings.filters, np.random.default_rng((settings.seed, seed)))
    values = {f.name: f.encode(item.values.get(f.name)) for f in workshop.schema if f.name not in workshop.pictures}
    account.split, account.patches, account.sums = SPLITS[split], len(patches), _sums(patches)
    return [
        PatchRow(split, _key(settings.seed, account.content, index), account.item, values | _encoded(workshop, alike))
        for index, alike in enumerate(patches)
    ]


def read_part(part: Part, max_bytes: int) -> bytes:
    """The bytes of one part; at most ``max_bytes + 1`` are read, enough to see the excess.

    Raises:
        PictureRejected: ``too-many-bytes`` when the listing says so already; ``unreadable`` when the store refuses.
    """
    if part.length > max_bytes:
        raise PictureRejected("too-many-bytes", f"{part.length} bytes, allowed are {max_bytes}")
    try:
        content = storage.read_range(part.url, part.offset, part.length if part.length >= 0 else max_bytes + 1)
    except Exception as error:  # each store has its own exceptions; all of them mean that this sample cannot be had
        raise PictureRejected("unreadable", f"{type(error).__name__}: {error}") from None
    if 0 <= part.length != len(content):
        raise PictureRejected("unreadable", f"{part.length} bytes were listed, {len(content)} are there")
    return content


def content_hash(contents: list[bytes]) -> bytes:
    """16 bytes that stand for the content of all parts of a sample."""
    digest = hashlib.blake2b(digest_size=16)
    for content in contents:
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.digest()


def split_of(content: bytes, shares: SplitShares) -> int:
    """The side of the train/validation/test line on which the picture with this content hash lies, in any run."""
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


def _encoded(workshop: Workshop, alike: list[Pixels]) -> dict[str, bytes]:
    return {name: workshop.schema[name].encode(patch) for name, patch in zip(workshop.pictures, alike, strict=True)}


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


class _Shelf:
    """Collects rows and puts them away as fragments of bounded size."""

    def __init__(self, workshop: Workshop) -> None:
        self.fragments: list[str] = []
        self.bytes_of_split = dict.fromkeys(SPLITS, 0)
        self.rows_of_split = dict.fromkeys(SPLITS, 0)
        self._workshop = workshop
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
        url = storage.join(self._workshop.folder, "fragments", f"{uuid.uuid4().hex}.arrow")
        write_fragment(url, self._rows, self._workshop.schema, self._workshop.bin_bits)
        self.fragments.append(url)
        self._rows, self._bytes = [], 0


def _in_order(
    function: Callable[[tuple[int, Item]], tuple[Account, list[PatchRow]]],
    arguments: Iterable[tuple[int, Item]],
    threads: int,
) -> Iterator[tuple[Account, list[PatchRow]]]:
    """``map`` on a few threads, that runs ahead of its reader by no more than ``threads`` results."""
    waiting: deque[Future[tuple[Account, list[PatchRow]]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for argument in arguments:
            if len(waiting) >= 2 * threads:
                yield waiting.popleft().result()
            waiting.append(pool.submit(function, argument))
        while waiting:
            yield waiting.popleft().result()
