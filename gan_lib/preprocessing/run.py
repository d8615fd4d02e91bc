"""One attempt at one version of a dataset, continuing where earlier attempts at the same stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from functools import cached_property, partial
from math import ceil, log2
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from gan_lib.cluster.parallelize import parallelize
from gan_lib.cluster.watch import watched
from gan_lib.core import storage
from gan_lib.core.errors import UserError
from gan_lib.dataset.manifest import DataFile, Manifest, Split, version_url
from gan_lib.dataset.schema import Field, ScalarField, Schema
from gan_lib.preprocessing import sample_status, statistics
from gan_lib.preprocessing.duplicates.matching import find_duplicates
from gan_lib.preprocessing.duplicates.report import DUPLICATES_REPORT, duplicates_report
from gan_lib.preprocessing.duplicates.written import WrittenSamples
from gan_lib.preprocessing.media.medium import Medium
from gan_lib.preprocessing.media.tokens import TokensMedium
from gan_lib.preprocessing.planning import Plan, WorkUnit
from gan_lib.preprocessing.publishing import versions
from gan_lib.preprocessing.publishing.fragments import SPLITS
from gan_lib.preprocessing.publishing.merging import Output, merge, plan_files
from gan_lib.preprocessing.sample_status import WRITTEN
from gan_lib.preprocessing.settings import PreprocessSettings
from gan_lib.preprocessing.sources.listing import Listing
from gan_lib.preprocessing.task import TaskContext, run_task
from gan_lib.preprocessing.vocabulary import build_vocabularies

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class Run:
    """What is to be done for one version, done step by step; each step leaves files that a later run finds."""

    def __init__(
        self,
        spark: SparkSession,
        settings: PreprocessSettings,
        base: Manifest | None,
        listing: Listing,
        staging: str,
        plan: Plan,
    ) -> None:
        self.spark, self.settings, self.base, self.listing = spark, settings, base, listing
        self.version = base.version + 1 if base else 1
        self.folder = storage.join(staging, _run_name(settings, plan, self.version))
        self.staged = storage.join(self.folder, "version")
        plan_url = storage.join(self.folder, "plan.json")
        if storage.exists(plan_url):
            plan = Plan.load(plan_url)
        else:
            plan.save(plan_url)
        self.plan = plan
        self.media, self.texts = media_of(settings, listing)

    def publish(self) -> Manifest:
        """Do what is left to do, and commit.

        Raises:
            UserError: no sample became a row, or another run has published this version meanwhile.
        """
        self._learn_vocabularies()
        self._run_tasks()
        done = [self.context.status_url(task) for task in range(len(self.plan.tasks))]
        facts = [sample_status.facts_of(url) for url in done]
        duplicates = self._find_duplicates(done)
        new_files = self._merge(facts, duplicates)
        manifest = self._assemble(done, duplicates, new_files)
        versions.commit(self.staged, version_url(self.settings.output, self.version), manifest)
        return manifest

    @cached_property
    def context(self) -> TaskContext:
        """What the tasks share; made once the vocabularies are known."""
        bits = ceil(log2(max(1, 4 * self.plan.cost / self.settings.layout.file_bytes)))
        classes = {name: len(self.listing.classes[name]) for name in self.settings.classes}
        bin_bits = min(14, max(4, bits))
        return TaskContext(self.settings, self._schema(), self.media, self.texts, classes, self.folder, bin_bits)

    def _schema(self) -> Schema:
        rules = self.settings.rules()
        fields: list[Field] = [medium.field(name, rules) for name, medium in self.media.items()]
        for name, dtype in self.listing.fields.items():
            text = self.texts.get(name)
            fields.append(ScalarField(name, dtype) if text is None else text.field(name, rules))
        return Schema("Samples", tuple(fields))

    def _learn_vocabularies(self) -> None:
        """Give every medium of tokens its vocabulary: the last version's, or one counted now, once for all attempts."""
        wanted = {n: m for n, m in {**self.media, **self.texts}.items() if isinstance(m, TokensMedium)}
        known = {n: m["vocabulary"] for n, m in (self.base.meanings if self.base else {}).items() if "vocabulary" in m}
        unknown = {n: m for n, m in wanted.items() if not m.vocabulary and n not in known}
        url = storage.join(self.folder, "vocabularies.json")
        if unknown and not storage.exists(url):
            found = build_vocabularies(self.spark, self.plan, self.settings, tuple(self.media), unknown)
            storage.write_atomic(url, json.dumps(found).encode())
        if unknown:
            known |= json.loads(storage.read_bytes(url))
        ready = {n: m.model_copy(update={"vocabulary": known[n]}) if n in known else m for n, m in wanted.items()}
        self.media = {name: ready.get(name, medium) for name, medium in self.media.items()}
        self.texts = {name: ready[name] for name in self.texts}

    def _run_tasks(self) -> None:
        context = self.context

        def work(numbered: tuple[int, tuple[WorkUnit, ...]]) -> Iterator[pa.RecordBatch]:
            run_task(context, *numbered)
            yield pa.RecordBatch.from_arrays([pa.array([numbered[0]], pa.int64())], names=["task"])

        sizes = {f"{n:06d}.parquet": sum(unit.samples for unit in task) for n, task in enumerate(self.plan.tasks)}
        done = partial(_done_in, storage.join(context.folder, "done"), sizes)
        with watched(sum(sizes.values()), "samples", "preparing samples", done):
            parallelize(self.spark, list(enumerate(self.plan.tasks)), work, "task bigint").collect()

    def _find_duplicates(self, done: list[str]) -> dict[int, str]:
        """id of a sample -> name of its representative. What a killed run has decided stays; its files rest on it."""
        near = self.settings.duplicates.near
        written = WrittenSamples(self._known_statuses(), done)
        url = storage.join(self.folder, "duplicates.parquet")
        if not storage.exists(url):
            found = find_duplicates(written.new, written.known, written.thumbnails if near else None)
            sample_status.write_table(url, found)
        found = sample_status.read(url)
        if near:
            report = duplicates_report(found, written.names, written.thumbnails)
            storage.write_atomic(storage.join(self.staged, DUPLICATES_REPORT), report.encode())
        return dict(zip(found["sample_id"].to_pylist(), found["representative"].to_pylist(), strict=True))

    def _known_statuses(self) -> list[str]:
        return list(sample_status.of_version(self._base_folder)) if self.base else []

    @property
    def _base_folder(self) -> str:
        return version_url(self.settings.output, self.base.version) if self.base else ""

    def _merge(self, facts: list[dict[str, Any]], duplicates: Mapping[int, str]) -> list[DataFile]:
        outputs = self._outputs(facts)
        fragments = [fragment for fact in facts for fragment in fact["fragments"]]
        dropped = pa.array(sorted(duplicates), pa.int64())
        files = {output.path: 1 for output in outputs}
        with watched(len(files), "files", "writing", partial(_done_in, self.staged, files)):
            return merge(self.spark, self.context, fragments, outputs, dropped, self.staged)

    def _outputs(self, facts: list[dict[str, Any]]) -> list[Output]:
        outputs = []
        for split in SPLITS:
            size = sum(fact["bytes"][split] for fact in facts)
            if any(fact["rows"][split] for fact in facts):
                bits = self.context.bin_bits
                outputs += plan_files(split, size, self.settings.layout.file_bytes, bits, self.version)
        return outputs

    def _assemble(self, done: list[str], duplicates: dict[int, str], new_files: list[DataFile]) -> Manifest:
        files = self._files_of_base()
        for file in new_files:
            files.setdefault(file.path.partition("/")[0], []).append(file)
        tables = map(sample_status.read, done)
        versions.write_statuses(self.staged, self.version, versions.settled(tables, duplicates))
        without_thumbnails = partial(sample_status.read, columns=sample_status.SMALL_COLUMNS)
        versions.write_rejects(self.staged, map(without_thumbnails, sample_status.of_version(self.staged)))
        versions.write_metadata(self.staged, self.context.schema, files)
        facts = statistics.of_statuses(map(without_thumbnails, sample_status.of_version(self.staged)))
        if not facts.counts[WRITTEN]:
            raise UserError(f"None of the {facts.counts['read']} samples could be used: {facts.rejects}.")
        rows = sum(file.rows for part in files.values() for file in part)
        if rows != facts.numbers["rows"]:  # would be a bug of ours; better no version than one that lacks rows
            raise RuntimeError(f"the samples became {facts.numbers['rows']} rows, but {rows} are in the files")
        return self._manifest(facts, files)

    def _files_of_base(self) -> dict[str, list[DataFile]]:
        """What the last version holds, made part of this one."""
        if not self.base:
            return {}
        files = {split: list(part.files) for split, part in self.base.splits.items()}
        names = storage.list_names(storage.join(self._base_folder, sample_status.FOLDER))
        paths = [file.path for part in files.values() for file in part]
        paths += [f"{sample_status.FOLDER}/{name}" for name in names]
        versions.take_over(self._base_folder, self.staged, paths)
        return files

    def _manifest(self, facts: statistics.Statistics, files: dict[str, list[DataFile]]) -> Manifest:
        return Manifest(
            version=self.version,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            schema=self.context.schema,
            splits={split: Split(sum(file.rows for file in part), tuple(part)) for split, part in files.items()},
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


def media_of(settings: PreprocessSettings, listing: Listing) -> tuple[dict[str, Medium], dict[str, TokensMedium]]:
    """(medium of each part, in their order; medium of each text beside the parts that is to become tokens).

    Raises:
        UserError: the settings name a field that is neither a part nor a text, or a value beside the parts has the name
            of one of them.
    """
    parts = listing.parts or (settings.medium.kind,)
    media: dict[str, Medium] = {name: settings.media.get(name, settings.medium) for name in parts}
    doubled = sorted(media.keys() & listing.fields.keys())
    if doubled:
        raise UserError(f"The field {doubled[0]} would hold the samples' content and a value beside it: rename it.")
    texts: dict[str, TokensMedium] = {}
    for name, medium in settings.media.items():
        if name in media:
            continue
        if listing.fields.get(name) != "str" or not isinstance(medium, TokensMedium):
            known = ", ".join([*parts, *(n for n, dtype in listing.fields.items() if dtype == "str")])
            raise UserError(
                f"media.{name} fits nothing in the source: it has {known}; texts beside its parts can be tokens only."
            )
        texts[name] = medium
    return media, texts


def with_classes(listing: Listing, settings: PreprocessSettings) -> Listing:
    """The listing, with the class names that the settings give.

    Raises:
        UserError: they are given for a field that holds no whole numbers, or whose classes the source names itself.
    """
    for name in settings.classes:
        if not listing.fields.get(name, "").startswith(("int", "uint")):
            whole = [n for n, dtype in listing.fields.items() if dtype.startswith(("int", "uint"))]
            raise UserError(
                f"classes.{name} names no field of whole numbers; the source has {', '.join(whole) or 'none'}."
            )
        if name in listing.classes:
            raise UserError(f"The source names the classes of {name} itself: leave classes.{name} out.")
    return replace(listing, classes={**listing.classes, **settings.classes})


def _run_name(settings: PreprocessSettings, plan: Plan, version: int) -> str:
    """The same for a killed run and its successor, another when source or configuration have changed in between."""
    configuration = settings.model_dump(mode="json", exclude={"work", "max_rejected_share"})
    text = json.dumps([configuration, plan.fingerprint, plan.samples, version], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _done_in(folder: str, sizes: Mapping[str, int]) -> int:
    """How much of a job is done, by the files that its tasks have left behind.

    Args:
        folder: where tasks leave them.
        sizes: file that a task leaves below ``folder`` -> how much is done with it.
    """
    parents = {name.rpartition("/")[0] for name in sizes}
    found = {f"{p}/{n}".lstrip("/") for p in parents for n in storage.list_names(storage.join(folder, p))}
    return sum(size for name, size in sizes.items() if name in found)
