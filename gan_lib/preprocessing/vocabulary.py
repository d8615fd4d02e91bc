"""The pass over a corpus that comes before any text is encoded: which tokens there are, counted on the cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from gan_lib.cluster.parallelize import parallelize
from gan_lib.core.errors import Rejected, UserError
from gan_lib.preprocessing.media.tokens import SPECIAL_TOKENS, TokensMedium, text_of
from gan_lib.preprocessing.planning import Plan, WorkUnit
from gan_lib.preprocessing.publishing.fragments import SPLITS
from gan_lib.preprocessing.samples import Sample, content_hash, read_part
from gan_lib.preprocessing.settings import PreprocessSettings
from gan_lib.preprocessing.task import split_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# More tokens than any vocabulary has; beyond it the rarest are not fetched to the driver.
_MOST_TOKENS = 1_000_000


def build_vocabularies(
    spark: SparkSession,
    plan: Plan,
    settings: PreprocessSettings,
    parts: tuple[str, ...],
    media: Mapping[str, TokensMedium],
) -> dict[str, list[str]]:
    """Field -> vocabulary, for each of ``media``: what the texts of the training split hold, the most frequent first.

    Args:
        spark: the session.
        plan: the samples.
        settings: of the run.
        parts: the fields that a sample's parts become, in their order; another field is a value beside them.
        media: what texts are cut into.

    Raises:
        UserError: a vocabulary would be empty.
    """

    def count(task: tuple[WorkUnit, ...]) -> Iterator[pa.RecordBatch]:
        counts: dict[str, Counter[str]] = {name: Counter() for name in media}
        for work_unit in task:
            for sample in work_unit.read():
                for name, text in _texts_to_learn(sample, settings, parts, media):
                    counts[name].update(media[name].tokens(text))
        rows = [(name, token, n) for name, counter in counts.items() for token, n in counter.items()]
        columns = zip(*rows, strict=True) if rows else ([], [], [])
        types = (pa.string(), pa.string(), pa.int64())
        arrays = [pa.array(list(column), kind) for column, kind in zip(columns, types, strict=True)]
        yield pa.RecordBatch.from_arrays(arrays, names=["field", "token", "n"])

    from pyspark.sql import functions as F

    counted = parallelize(spark, plan.tasks, count, "field string, token string, n bigint")
    totals = counted.groupBy("field", "token").agg(F.sum("n").alias("n")).cache()
    try:
        return {name: _vocabulary(totals, name, medium) for name, medium in media.items()}
    finally:
        totals.unpersist()


def _vocabulary(totals: object, name: str, medium: TokensMedium) -> list[str]:
    from pyspark.sql import functions as F

    frequent = totals.where((F.col("field") == name) & (F.col("n") >= medium.min_count))  # type: ignore[attr-defined]
    room = medium.max_size or _MOST_TOKENS
    # The order among equals must not depend on a cluster's collation: bytes are compared.
    rows = frequent.orderBy(F.desc("n"), F.encode("token", "UTF-8")).limit(room).select("token", "n").collect()
    vocabulary = medium.vocabulary_of((row.token, row.n) for row in rows)
    if len(vocabulary) == len(SPECIAL_TOKENS):
        raise UserError(
            f"No token of the field {name} occurs {medium.min_count} times in the training split; lower min_count, or "
            "see whether the source holds text."
        )
    return vocabulary


def _texts_to_learn(
    sample: Sample, settings: PreprocessSettings, parts: tuple[str, ...], media: Mapping[str, TokensMedium]
) -> Iterator[tuple[str, str]]:
    """(field, text) of a sample of the training split; nothing of one that will be rejected for its bytes.

    Raises:
        StoreUnavailable: it cannot be had now, and a vocabulary is for good: the job ends, and is to be run again.
    """
    if sample.problem is not None:
        return
    try:
        contents = [read_part(part, settings.limits.max_bytes) for part in sample.parts]
        if SPLITS[split_of(content_hash(contents), settings.split)] != "train":
            return
        texts = {name: text_of(content) for name, content in zip(parts, contents, strict=True) if name in media}
    except Rejected:
        return
    yield from texts.items()
    beside = {name: sample.values.get(name) for name in media if name not in parts}
    yield from ((name, text) for name, text in beside.items() if isinstance(text, str))
