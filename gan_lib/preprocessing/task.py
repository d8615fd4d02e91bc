"""One task: samples -> encoded rows and a status of each sample. No Spark in here; it runs in an executor.

Bytes are read once. Whatever is wrong with a sample becomes its status's reason; an exception out of here is a bug or
a broken machine, never a bad file.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gan_lib.core import storage
from gan_lib.core.errors import Rejected
from gan_lib.core.ordered_map import map_in_order
from gan_lib.core.stores.commit_record import create_commit_record, read_commit_record
from gan_lib.dataset.schema import DatasetError, Schema
from gan_lib.preprocessing import sample_status
from gan_lib.preprocessing.media.medium import Decoded, Medium, Rules
from gan_lib.preprocessing.media.tokens import TokensMedium
from gan_lib.preprocessing.planning import WorkUnit
from gan_lib.preprocessing.publishing.fragments import SPLITS, EncodedRow, ShardWriter
from gan_lib.preprocessing.sample_status import SampleStatus
from gan_lib.preprocessing.samples import Sample, content_hash, read_part
from gan_lib.preprocessing.settings import PreprocessSettings, SplitShares

__all__ = ["TaskContext", "prepare", "read_part", "run_task", "split_of"]


@dataclass(frozen=True)
class TaskContext:
    """What every task of a run shares: the rules, the columns, and where finished work goes."""

    settings: PreprocessSettings
    schema: Schema
    media: Mapping[str, Medium]
    """field -> medium, in the order of a sample's parts"""
    texts: Mapping[str, TokensMedium]
    """values beside the parts that are stored as tokens"""
    classes: Mapping[str, int]
    """values beside the parts that are classes -> how many there are"""
    folder: str
    """the run's staging folder"""
    bin_bits: int

    def record_url(self, task: int) -> str:
        """Where the commit record of the task lies once it is done: it names its statuses and its fragments."""
        return storage.join(self.folder, "done", f"{task:06d}.json")


def run_task(context: TaskContext, task: int, work_units: Sequence[WorkUnit]) -> None:
    """Do one task, unless an earlier attempt has. What it writes counts only once its commit record names it."""
    record_url = context.record_url(task)
    if read_commit_record(record_url) is not None:
        return
    cv2.setNumThreads(1)  # tasks, and the threads in them, share the cores already
    samples = [sample for work_unit in work_units for sample in work_unit.read()]
    statuses: list[SampleStatus] = []
    shards = ShardWriter(context.folder, context.schema, context.bin_bits)
    for status, rows in _prepared(context, task, samples):
        statuses.append(status)
        shards.add(rows)
    shards.flush()
    statuses_url = f"{record_url.removesuffix('.json')}-{uuid.uuid4().hex}.parquet"
    sample_status.write(statuses_url, statuses)
    facts = {"fragments": shards.fragments, "bytes": shards.bytes_of_split, "rows": shards.rows_of_split}
    create_commit_record(record_url, {"statuses": statuses_url, **facts})


def _prepared(
    context: TaskContext, task: int, samples: Iterable[Sample]
) -> Iterator[tuple[SampleStatus, list[EncodedRow]]]:
    """Every sample prepared, in order, on a few threads that run ahead by no more than twice their number."""
    threads = context.settings.work.threads
    with ThreadPoolExecutor(threads) as pool:
        yield from map_in_order(
            pool,
            lambda numbered: prepare(context, numbered[1], task << 32 | numbered[0]),
            enumerate(samples),
            weigh=lambda numbered: 1,
            limit=2 * threads,
        )


def prepare(context: TaskContext, sample: Sample, number: int) -> tuple[SampleStatus, list[EncodedRow]]:
    """One sample: its status, and its rows (none for a reject)."""
    status = SampleStatus(number, sample.name, sample.fingerprint)
    try:
        return status, _rows(context, sample, status)
    except Rejected as rejected:
        status.reject(rejected)
    except DatasetError as error:  # a label or caption that its field cannot hold
        status.reject(Rejected("bad-field", str(error)))
    return status, []


def _rows(context: TaskContext, sample: Sample, status: SampleStatus) -> list[EncodedRow]:
    settings, rules = context.settings, context.settings.rules()
    if sample.problem is not None:
        reason, _, message = sample.problem.partition(": ")
        raise Rejected(reason, message)
    contents = [read_part(part, settings.limits.max_bytes) for part in sample.parts]
    status.content = content_hash(contents)
    media = list(context.media.values())
    decoded = [medium.decode(content, rules) for medium, content in zip(media, contents, strict=True)]
    _describe(status, decoded)
    seed = (settings.seed, int.from_bytes(status.content, "little"))
    pieces = _cut(media, [part.values for part in decoded], rules, seed)
    values = _values(context, sample)
    split = split_of(status.content, settings.split)
    judged = _judged(media)
    status.sums = media[judged].sums([piece[judged] for piece in pieces]) if judged is not None else []
    status.split, status.rows = SPLITS[split], len(pieces)
    return [
        EncodedRow(
            split, _key(settings.seed, status.content, index), status.sample_id, values | _encoded(context, piece)
        )
        for index, piece in enumerate(pieces)
    ]


def _describe(status: SampleStatus, decoded: Sequence[Decoded]) -> None:
    status.height, status.width = next(((part.height, part.width) for part in decoded if part.height), (0, 0))
    status.length = next((part.length for part in decoded if part.length), 0)
    hashed = next((part for part in reversed(decoded) if part.phash is not None), None)
    if hashed is not None:
        status.phash, status.thumbnail = hashed.phash, hashed.thumbnail


def _judged(media: Sequence[Medium]) -> int | None:
    """The part that filters judge and statistics describe: the last image, which in a pair is the one to be learned."""
    return next((n for n in reversed(range(len(media))) if media[n].has_channels), None)


def _cut(media: Sequence[Medium], parts: Sequence[NDArray], rules: Rules, seed: tuple[int, int]) -> list[list[NDArray]]:
    """The pieces of a sample, each with one array for every part.

    Parts with equal cutters are cut alike. A part that gives one piece stays beside all pieces of the others.

    Raises:
        Rejected: ``pieces-differ`` when parts of different media give different numbers of pieces.
    """
    cutters = [medium.cutter(rules) for medium in media]
    judged = _judged(media)
    pieces_of: list[list[NDArray]] = [[] for _ in parts]
    for cutter in dict.fromkeys(cutters):
        alike = [n for n, other in enumerate(cutters) if other == cutter]
        position = alike.index(judged) if judged in alike else None
        for piece in cutter.cut([parts[n] for n in alike], position, np.random.default_rng(seed)):
            for n, array in zip(alike, piece, strict=True):
                pieces_of[n].append(array)
    counts = {len(pieces) for pieces in pieces_of}
    if len(counts - {1}) > 1:
        raise Rejected("pieces-differ", f"its parts give {sorted(counts)} pieces, and they must be as many or one")
    return [[pieces[n % len(pieces)] for pieces in pieces_of] for n in range(max(counts))]


def _values(context: TaskContext, sample: Sample) -> dict[str, Any]:
    """The values beside the parts, as their columns store them.

    Raises:
        DatasetError: a value does not fit its field.
        Rejected: a text holds no tokens.
    """
    found: dict[str, Any] = dict(sample.values)
    for name, medium in context.texts.items():
        found[name] = medium.encode(str(found.get(name, "")))
    for name, classes in context.classes.items():
        if not 0 <= found[name] < classes:
            raise DatasetError(f"Field {name} has {classes} classes, and {found[name]} is none of them.")
    return {f.name: f.encode(found.get(f.name)) for f in context.schema if f.name not in context.media}


def split_of(content: bytes, shares: SplitShares) -> int:
    """On which side of the train/validation/test line the sample with this content hash lies, in any run."""
    digest = hashlib.blake2b(content, key=shares.salt.encode()[:64], digest_size=8).digest()
    draw = int.from_bytes(digest, "little") / 2**64
    if draw < shares.test:
        return SPLITS.index("test")
    if draw < shares.test + shares.validation:
        return SPLITS.index("validation")
    return SPLITS.index("train")


def _key(seed: int, content: bytes, index: int) -> int:
    """By what rows are shuffled: a function of seed, content and index, so of nothing that may change."""
    text = b"%d:%d:" % (seed, index) + content
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def _encoded(context: TaskContext, piece: list[NDArray]) -> dict[str, Any]:
    return {
        name: context.schema[name].encode(medium.stored(array))
        for (name, medium), array in zip(context.media.items(), piece, strict=True)
    }
