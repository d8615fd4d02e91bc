"""One attempt at one version of a dataset, continuing where earlier attempts at the same stopped."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from functools import cached_property, partial
from math import ceil, log2
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from gan_lib.cluster.parallelize import parallelize
from gan_lib.cluster.watch import watched
from gan_lib.core import storage
from gan_lib.core.errors import StoreUnavailable, UserError
from gan_lib.core.stores.commit_record import read_commit_record, recorded
from gan_lib.dataset.manifest import DataFile, Manifest, Split, version_url
from gan_lib.preprocessing import sample_status, statistics
from gan_lib.preprocessing.corpus_schema import media_of, schema_of
from gan_lib.preprocessing.duplicates.matching import find_duplicates
from gan_lib.preprocessing.duplicates.report import DUPLICATES_REPORT, duplicates_report
from gan_lib.preprocessing.duplicates.written import WrittenSamples
from gan_lib.preprocessing.media.tokens import TokensMedium
from gan_lib.preprocessing.planning import Plan, WorkUnit
from gan_lib.preprocessing.publishing import staging, versions
from gan_lib.preprocessing.publishing.fragments import SPLITS
from gan_lib.preprocessing.publishing.merging import MERGED, MergedFile, Output, merge, plan_files, record_name
from gan_lib.preprocessing.sample_status import WRITTEN
from gan_lib.preprocessing.samples import UNAVAILABLE
from gan_lib.preprocessing.settings import PreprocessSettings
from gan_lib.preprocessing.sources.listing import Listing
from gan_lib.preprocessing.task import TaskContext, run_task
from gan_lib.preprocessing.vocabulary import build_vocabularies

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


_READ_AT_ONCE = 16  # records


class Run:
    """What is to be done for one version, done step by step; each step leaves files that a later run finds."""

    def __init__(
        self,
        spark: SparkSession,
        settings: PreprocessSettings,
        base: Manifest | None,
        listing: Listing,
        plan: Plan,
    ) -> None:
        self.spark, self.settings, self.base, self.listing = spark, settings, base, listing
        self.version = next_version(base)
        self.name = _run_name(settings, plan, self.version)
        self.folder = staging.staging_url(settings.output, self.name)
        self.plan = Plan.of_record(recorded(storage.join(self.folder, "plan.json"), plan.to_record))
        self.media, self.texts = media_of(settings, listing)

    def publish(self) -> Manifest:
        """Do what is left to do, and commit.

        Raises:
            UserError: no sample became a row, or another run has published this version meanwhile.
        """
        with staging.alive([self.folder, *sorted(self.plan.drafts)]):
            self._learn_vocabularies()
            self._run_tasks()
            with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
                facts = list(pool.map(self._record_of, range(len(self.plan.tasks))))
            done = [fact["statuses"] for fact in facts]
            duplicates = self._find_duplicates(done)
            manifest, files = self._assemble(done, duplicates, self._merge(facts, duplicates))
            if messages := [message for fact in facts for message in fact[UNAVAILABLE]]:
                manifest.source[UNAVAILABLE] = {"count": len(messages), "first": messages[0]}
            return versions.commit(self.settings.output, manifest, files, storage.join(self.folder, "complete"))

    @cached_property
    def context(self) -> TaskContext:
        """What the tasks share; made once the vocabularies are known."""
        bits = ceil(log2(max(1, 4 * self.plan.cost / self.settings.layout.file_bytes)))
        classes = {name: len(self.listing.classes[name]) for name in self.settings.classes}
        bin_bits = min(14, max(4, bits))
        schema = schema_of(self.settings, self.listing)
        return TaskContext(self.settings, schema, self.media, self.texts, classes, self.folder, bin_bits)

    def _learn_vocabularies(self) -> None:
        """Give every medium of tokens its vocabulary: the last version's, or one counted now, once for all attempts."""
        wanted = {n: m for n, m in {**self.media, **self.texts}.items() if isinstance(m, TokensMedium)}
        known = {n: m["vocabulary"] for n, m in (self.base.meanings if self.base else {}).items() if "vocabulary" in m}
        unknown = {n: m for n, m in wanted.items() if not m.vocabulary and n not in known}
        if unknown:
            known |= recorded(
                storage.join(self.folder, "vocabularies.json"),
                lambda: build_vocabularies(self.spark, self.plan, self.settings, tuple(self.media), unknown),
            )
        ready = {n: m.model_copy(update={"vocabulary": known[n]}) if n in known else m for n, m in wanted.items()}
        self.media = {name: ready.get(name, medium) for name, medium in self.media.items()}
        self.texts = {name: ready[name] for name in self.texts}

    def _run_tasks(self) -> None:
        context = self.context

        def work(numbered: tuple[int, tuple[WorkUnit, ...]]) -> Iterator[pa.RecordBatch]:
            run_task(context, *numbered)
            yield pa.RecordBatch.from_arrays([pa.array([numbered[0]], pa.int64())], names=["task"])

        sizes = {f"{n:06d}.json": sum(unit.samples for unit in task) for n, task in enumerate(self.plan.tasks)}
        done = partial(_done_in, storage.join(context.folder, "done"), sizes)
        with watched(sum(sizes.values()), "samples", "preparing samples", done):
            parallelize(self.spark, list(enumerate(self.plan.tasks)), work, "task bigint").collect()

    def _record_of(self, task: int) -> dict[str, Any]:
        url = self.context.record_url(task)
        record = read_commit_record(url)
        if record is None:  # without it the version would lack samples
            raise StoreUnavailable(f"{url} was there when its task ended, and is not there now.")
        return record

    def _find_duplicates(self, done: list[str]) -> dict[int, str]:
        """id of a sample -> name of its representative. What a killed run has decided stays; its files rest on it."""
        near = self.settings.duplicates.near
        written = WrittenSamples(self._known_statuses(), done)

        def find() -> dict[str, str]:
            url = storage.join(self.folder, f"duplicates-{uuid.uuid4().hex}.parquet")
            sample_status.write_table(
                url, find_duplicates(written.new, written.known, written.thumbnails if near else None)
            )
            return {"table": url}

        found = sample_status.read(recorded(storage.join(self.folder, "duplicates.json"), find)["table"])
        if near:
            report = duplicates_report(found, written.names, written.thumbnails)
            storage.write_atomic(self._new_file(DUPLICATES_REPORT), report.encode())
        return dict(zip(found["sample_id"].to_pylist(), found["representative"].to_pylist(), strict=True))

    def _known_statuses(self) -> list[str]:
        return sample_status.of_version(version_url(self.settings.output, self.base.version)) if self.base else []

    def _merge(self, facts: list[dict[str, Any]], duplicates: Mapping[int, str]) -> list[MergedFile]:
        outputs = self._outputs(facts)
        fragments = [fragment for fact in facts for fragment in fact["fragments"]]
        dropped = pa.array(sorted(duplicates), pa.int64())
        records = {record_name(output): 1 for output in outputs}
        with watched(len(records), "files", "writing", partial(_done_in, storage.join(self.folder, MERGED), records)):
            files = staging.files_url(self.settings.output, self.name)
            return merge(self.spark, self.context, fragments, outputs, dropped, files)

    def _outputs(self, facts: list[dict[str, Any]]) -> list[Output]:
        outputs = []
        for split in SPLITS:
            size = sum(fact["bytes"][split] for fact in facts)
            if any(fact["rows"][split] for fact in facts):
                bits = self.context.bin_bits
                outputs += plan_files(split, size, self.settings.layout.file_bytes, bits, self.version)
        return outputs

    def _assemble(
        self, done: list[str], duplicates: dict[int, str], merged: list[MergedFile]
    ) -> tuple[Manifest, dict[str, str]]:
        """The manifest, and all files of the version: path below its folder -> below the dataset, where they lie."""
        files = versions.files_of(self.settings.output, self.base) if self.base else {}
        splits = {name: list(part.files) for name, part in self.base.splits.items()} if self.base else {}
        for new in merged:
            splits.setdefault(new.file.path.partition("/")[0], []).append(new.file)
            files[new.file.path] = f"{staging.FILES}/{self.name}/{new.folder}/{new.file.path}"
        tables = map(sample_status.read, done)
        statuses = f"{sample_status.FOLDER}/{self.version:06d}.parquet"
        versions.write_statuses(self._new_file(statuses), versions.settled(tables, duplicates))
        urls = [*self._known_statuses(), self._new_file(statuses)]
        without_thumbnails = partial(sample_status.read, columns=sample_status.SMALL_COLUMNS)
        versions.write_rejects(self._new_file(versions.REJECTS), map(without_thumbnails, urls))
        facts = statistics.of_statuses(map(without_thumbnails, urls))
        self._check(facts, splits)
        report = [DUPLICATES_REPORT] if self.settings.duplicates.near else []
        files |= {path: f"{self._own_folder}/{path}" for path in (statuses, versions.REJECTS, *report)}
        return self._manifest(facts, splits), files

    @cached_property
    def _own_folder(self) -> str:
        """Of this process alone, below the dataset: two runs of one name never write to one file."""
        return f"{staging.FILES}/{self.name}/{uuid.uuid4().hex}"

    def _new_file(self, path: str) -> str:
        return storage.join(self.settings.output, self._own_folder, path)

    def _check(self, facts: statistics.Statistics, splits: Mapping[str, Sequence[DataFile]]) -> None:
        if not facts.counts[WRITTEN]:
            raise UserError(f"None of the {facts.counts['read']} samples could be used: {facts.rejects}.")
        rows = sum(file.rows for part in splits.values() for file in part)
        if rows != facts.numbers["rows"]:  # would be a bug of ours; better no version than one that lacks rows
            raise RuntimeError(f"the samples became {facts.numbers['rows']} rows, but {rows} are in the files")

    def _manifest(self, facts: statistics.Statistics, splits: Mapping[str, Sequence[DataFile]]) -> Manifest:
        return Manifest(
            version=self.version,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            schema=self.context.schema,
            splits={split: Split(sum(file.rows for file in part), tuple(part)) for split, part in splits.items()},
            counts=facts.counts,
            rejects=facts.rejects,
            configuration=self.settings.model_dump(mode="json"),
            source={"fingerprint": facts.fingerprint, "read_before": self.plan.known},
            statistics=facts.numbers,
            meanings=self._meanings(),
        )

    def _meanings(self) -> dict[str, dict[str, Any]]:
        meanings = {name: medium.meaning() for name, medium in {**self.media, **self.texts}.items()}
        meanings |= {name: {"classes": list(classes)} for name, classes in self.listing.classes.items()}
        return {name: meaning for name, meaning in meanings.items() if meaning}


def next_version(base: Manifest | None) -> int:
    """The version that follows ``base``."""
    return base.version + 1 if base else 1


def _run_name(settings: PreprocessSettings, plan: Plan, version: int) -> str:
    """The same for a killed run and its successor, another when source or configuration have changed in between."""
    configuration = settings.model_dump(mode="json", exclude={"work", "max_rejected_share"})
    text = json.dumps([configuration, plan.fingerprint, plan.samples, version], sort_keys=True)
    return f"{version:06d}-{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"


def _done_in(folder: str, sizes: Mapping[str, int]) -> int:
    """How much of a job is done, by the files that its tasks have left behind.

    Args:
        folder: where tasks leave them.
        sizes: file that a task leaves below ``folder`` -> how much is done with it.
    """
    parents = {name.rpartition("/")[0] for name in sizes}
    found = {f"{p}/{n}".lstrip("/") for p in parents for n in storage.list_names(storage.join(folder, p))}
    return sum(size for name, size in sizes.items() if name in found)
