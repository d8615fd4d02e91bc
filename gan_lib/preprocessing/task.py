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
import pyarrow as pa
from numpy.typing import NDArray

from gan_lib.core import storage
from gan_lib.core.errors import Rejected, StoreUnavailable
from gan_lib.core.ordered_map import map_in_order
from gan_lib.core.stores.commit_record import create_commit_record, read_commit_record
from gan_lib.dataset.schema import DatasetError, Field, ScalarField, Schema
from gan_lib.preprocessing import sample_status
from gan_lib.preprocessing.media.medium import Decoded, Medium, Rules
from gan_lib.preprocessing.media.tokens import TokensMedium
from gan_lib.preprocessing.planning import WorkUnit
from gan_lib.preprocessing.publishing.fragments import SPLITS, EncodedRow, ShardWriter
from gan_lib.preprocessing.sample_status import SampleStatus
from gan_lib.preprocessing.samples import UNAVAILABLE, Sample, content_hash, read_part
from gan_lib.preprocessing.settings import PreprocessSettings, SplitShares
from gan_lib.preprocessing.sources.values import from_json

# One file that its owner closed must not cost a corpus its night; so many in a row mean that nothing can be had, and
# each has cost a second or two of asking again.
_MOST_UNAVAILABLE = 32
_BYTES_HANDED_OVER = 2**19
"""of samples that a thread takes at a time"""

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
    """Do one task, unless an earlier attempt has. What it writes counts only once its commit record names it.

    A sample that its store does not give now, though it was asked several times, at the end of the task once more, gets
    no status: the record names it under "unavailable", and the next run, which does not know it, takes it up.

    Raises:
        StoreUnavailable: no sample became a row and some cannot be had now, or so many after each other that the store
            itself is down, or the staging folder's is. The task leaves no record, so the next run does it again.
        MachineInTrouble: this machine cannot go on, and no sample is at fault.
    """
    record_url = context.record_url(task)
    if read_commit_record(record_url) is not None:
        return
    cv2.setNumThreads(1)  # tasks, and the threads in them, share the cores already
    samples = [sample for work_unit in work_units for sample in work_unit.read()]
    statuses: list[SampleStatus] = []
    shards = ShardWriter(context.folder, context.schema, context.bin_bits)
    unavailable = _prepare_all(context, task, list(enumerate(samples)), statuses, shards)
    again = [(number, samples[number]) for number in unavailable]
    unavailable = _prepare_all(context, task, again, statuses, shards)
    shards.flush()
    if unavailable and not any(status.rows for status in statuses):
        raise next(iter(unavailable.values()))
    statuses_url = f"{record_url.removesuffix('.json')}-{uuid.uuid4().hex}.parquet"
    sample_status.write(statuses_url, sorted(statuses, key=lambda status: status.sample_id))
    facts: dict[str, Any] = {"fragments": shards.fragments, "bytes": shards.bytes_of_split}
    facts |= {"rows": shards.rows_of_split, UNAVAILABLE: [str(error) for error in unavailable.values()]}
    create_commit_record(record_url, {"statuses": statuses_url, **facts})


def _prepare_all(
    context: TaskContext,
    task: int,
    numbered: Sequence[tuple[int, Sample]],
    statuses: list[SampleStatus],
    shards: ShardWriter,
) -> dict[int, StoreUnavailable]:
    """Prepare samples by their numbers and add their statuses and rows; why the others cannot be had now."""
    unavailable: dict[int, StoreUnavailable] = {}
    in_a_row = 0
    for (number, _), outcome in zip(numbered, _prepared(context, task, numbered), strict=True):
        if not isinstance(outcome, StoreUnavailable):
            statuses.append(outcome[0])
            shards.add(outcome[1])
            in_a_row = 0
            continue
        unavailable[number] = outcome
        in_a_row += 1
        if in_a_row == _MOST_UNAVAILABLE:
            raise StoreUnavailable(f"{in_a_row} samples after each other cannot be had now; the last: {outcome}")
    return unavailable


Outcome = tuple[SampleStatus, list[EncodedRow]] | StoreUnavailable


def _prepared(context: TaskContext, task: int, numbered: Iterable[tuple[int, Sample]]) -> Iterator[Outcome]:
    """Every sample prepared, in order, on a few threads that run ahead by no more than twice their number.

    Small samples are handed to a thread some at a time: each handing over costs as much as a tenth of a photo.
    """

    def outcome(numbered: tuple[int, Sample]) -> Outcome:
        try:
            return prepare(context, numbered[1], task << 32 | numbered[0])
        except StoreUnavailable as error:
            return error

    def outcomes(together: list[tuple[int, Sample]]) -> list[Outcome]:
        return [outcome(one) for one in together]

    threads = context.settings.work.threads
    with ThreadPoolExecutor(threads) as pool:
        runs = map_in_order(pool, outcomes, _handed_over(numbered), weigh=lambda one: 1, limit=2 * threads)
        for run in runs:
            yield from run


def _handed_over(numbered: Iterable[tuple[int, Sample]]) -> Iterator[list[tuple[int, Sample]]]:
    """Samples that follow each other, of few bytes together; a larger one alone."""
    together: list[tuple[int, Sample]] = []
    cost = 0
    for one in numbered:
        cost += one[1].cost
        if together and cost > _BYTES_HANDED_OVER:
            yield together
            together, cost = [], one[1].cost
        together.append(one)
    if together:
        yield together


def prepare(context: TaskContext, sample: Sample, number: int) -> tuple[SampleStatus, list[EncodedRow]]:
    """One sample: its status, and its rows (none for a reject).

    Raises:
        StoreUnavailable: it cannot be had now.
        MachineInTrouble: no sample can be prepared here.
    """
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
        if reason == UNAVAILABLE:
            raise StoreUnavailable(message)
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
        if not isinstance(found.get(name), str):
            raise DatasetError(f"Field {name} holds texts, and {found.get(name)!r:.100} is none.")
        found[name] = medium.encode(found[name])
    for name, classes in context.classes.items():
        number = found.get(name)
        if not isinstance(number, int | float) or not 0 <= number < classes:
            raise DatasetError(f"Field {name} has {classes} classes, and {number!r:.100} is none of them.")
    return {f.name: _stored(f, found.get(f.name)) for f in context.schema if f.name not in context.media}


def _stored(field: Field, value: Any) -> Any:
    """A value as the column of its field stores it.

    Raises:
        DatasetError: it does not fit; better here than when a thousand rows are written.
    """
    if not isinstance(field, ScalarField):
        return field.encode(value)
    try:
        stored = field.encode(from_json(value, field.dtype))
        pa.scalar(stored, field.arrow_type)
    except (ValueError, TypeError, OverflowError, pa.ArrowException) as error:
        raise DatasetError(f"Field {field.name} holds {field.dtype}, which {value!r:.100} is not: {error}.") from None
    return stored


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
