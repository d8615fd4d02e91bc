"""The whole way from a source to a published version, step by step, each step leaving files that a later run finds.

Killed at any moment and run again, it continues: the plan, finished tasks and finished files are kept in the dataset's
staging folder, under a name made from the source's fingerprint and the configuration.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from math import ceil, log2
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from gan_lib.cluster.parallelize import parallelize
from gan_lib.cluster.watch import watched
from gan_lib.core import storage
from gan_lib.core.errors import TooManyRejects, UserError
from gan_lib.dataset.manifest import DataFile, Manifest, Split, published_versions, version_url
from gan_lib.dataset.schema import ScalarField, Schema
from gan_lib.preprocessing import sample_status, statistics
from gan_lib.preprocessing.duplicates import matching as duplicates
from gan_lib.preprocessing.planning import Plan, WorkUnit, plan_corpus
from gan_lib.preprocessing.publishing import versions as publishing
from gan_lib.preprocessing.publishing.fragments import SPLITS
from gan_lib.preprocessing.publishing.merging import Output, merge, plan_files
from gan_lib.preprocessing.sample_status import WRITTEN
from gan_lib.preprocessing.settings import PreprocessSettings
from gan_lib.preprocessing.sources.listing import Context, Listing
from gan_lib.preprocessing.task import TaskContext, run_task

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@dataclass(frozen=True)
class Published:
    """What a run has done."""

    url: str
    """the version's folder"""
    manifest: Manifest
    new: bool
    """False when everything in the source was known already, and the last version still stands"""

    def rejects_csv(self) -> str:
        """The table of rejects: name, reason, detail."""
        return storage.read_bytes(storage.join(self.url, publishing.REJECTS)).decode()


def preprocess(spark: SparkSession, settings: PreprocessSettings) -> Published:
    """Publish the source as a new version of the dataset, with all that the last version holds.

    Raises:
        UserError: the source is not there or empty, no sample became an image, or the dataset's last version was made
            by another configuration.
    """
    output = storage.absolute(settings.output)
    settings = settings.model_copy(update={"output": output})
    base = _last_version(settings)
    staging = storage.join(output, "_staging")
    draft = storage.join(staging, "plans", uuid.uuid4().hex)
    classes = _classes_of(base) if base else {}
    listing = settings.source.listing(Context(spark, storage.join(draft, "spool"), classes))
    known = list(sample_status.of_version(version_url(output, base.version))) if base else []
    plan = plan_corpus(listing.frame, storage.join(draft, "listing"), known, settings.work.task_bytes)
    if not plan.items:
        return _nothing_new(settings, plan, base, draft)
    run = _Run(spark, settings, base, listing, staging, plan)
    published = run.publish()
    publishing.clear_staging(staging)
    return published


def require_few_rejects(published: Published, settings: PreprocessSettings) -> None:
    """Let a scheduler know when much of the corpus was bad.

    Raises:
        TooManyRejects: more was rejected than the settings allow. The version is published all the same.
    """
    counts = published.manifest.counts
    if counts["rejected"] > settings.max_rejected_share * counts["read"]:
        raise TooManyRejects(
            f"{counts['rejected']} of {counts['read']} samples were rejected, more than the share of "
            f"{settings.max_rejected_share:g} that max_rejected_share allows; {published.url}/{publishing.REJECTS} "
            "names each with its reason."
        )


def _last_version(settings: PreprocessSettings) -> Manifest | None:
    versions = published_versions(settings.output)
    if not versions:
        return None
    base = Manifest.load(version_url(settings.output, versions[-1]))
    wanted = settings.of_content()
    differing = [key for key in wanted if base.configuration.get(key) != wanted[key]]
    if differing:
        raise UserError(
            f"{settings.output} was made with another {' and another '.join(differing)}; "
            "name another output, or set what it was made with."
        )
    return base


def _classes_of(manifest: Manifest) -> dict[str, list[str]]:
    return {name: meaning["classes"] for name, meaning in manifest.meanings.items() if "classes" in meaning}


def _nothing_new(settings: PreprocessSettings, plan: Plan, base: Manifest | None, draft: str) -> Published:
    storage.remove_tree(draft)
    if base is None:
        raise UserError(f"The source holds no files: {settings.source.model_dump(exclude_none=True)}.")
    return Published(version_url(settings.output, base.version), base, new=False)


class _Run:
    """One attempt at one version, continuing where earlier attempts at the same stopped."""

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
        plan_url = storage.join(self.folder, "plan.json")
        if storage.exists(plan_url):
            plan = Plan.load(plan_url)
        else:
            plan.save(plan_url)
        self.plan = plan
        values = [ScalarField(name, dtype) for name, dtype in listing.fields.items()]
        images = [settings.image_field(name) for name in listing.images]
        self.schema = Schema("Patches", (*images, *values))
        bits = ceil(log2(max(1, 4 * plan.cost / settings.layout.file_bytes)))
        self.context = TaskContext(settings, self.schema, listing.images, self.folder, min(14, max(4, bits)))
        self.staged = storage.join(self.folder, "version")

    def publish(self) -> Published:
        """Do what is left to do, and commit."""
        self._cut_patches()
        done = [self.context.status_url(task) for task in range(len(self.plan.tasks))]
        facts = [sample_status.facts_of(url) for url in done]
        copies = self._duplicates(done)
        outputs = self._outputs(facts)
        fragments = [fragment for fact in facts for fragment in fact["fragments"]]
        dropped = pa.array(sorted(copies), pa.int64())
        files = {output.path: 1 for output in outputs}
        with watched(len(files), "files", "writing", partial(_done_in, self.staged, files)):
            new_files = merge(self.spark, self.context, fragments, outputs, dropped, self.staged)
        manifest = self._assemble(done, copies, new_files)
        final = version_url(self.settings.output, self.version)
        publishing.commit(self.staged, final, manifest)
        return Published(final, manifest, new=True)

    def _cut_patches(self) -> None:
        context = self.context

        def work(numbered: tuple[int, tuple[WorkUnit, ...]]) -> Iterator[pa.RecordBatch]:
            run_task(context, *numbered)
            yield pa.RecordBatch.from_arrays([pa.array([numbered[0]], pa.int64())], names=["task"])

        sizes = {
            f"{n:06d}.parquet": sum(work_unit.items for work_unit in task) for n, task in enumerate(self.plan.tasks)
        }
        done = partial(_done_in, storage.join(context.folder, "done"), sizes)
        with watched(sum(sizes.values()), "samples", "cutting patches", done):
            parallelize(self.spark, list(enumerate(self.plan.tasks)), work, "task bigint").collect()

    def _duplicates(self, done: list[str]) -> dict[int, str]:
        """item -> name of the sample that stays in its place."""
        return duplicates.find_duplicates(
            _written(done), _written(self._known_statuses()), near=self.settings.duplicates.near
        )

    def _known_statuses(self) -> list[str]:
        return list(sample_status.of_version(self._base_folder)) if self.base else []

    @property
    def _base_folder(self) -> str:
        return version_url(self.settings.output, self.base.version) if self.base else ""

    def _outputs(self, facts: list[dict[str, Any]]) -> list[Output]:
        outputs = []
        for split in SPLITS:
            size = sum(fact["bytes"][split] for fact in facts)
            if any(fact["rows"][split] for fact in facts):
                bits = self.context.bin_bits
                outputs += plan_files(split, size, self.settings.layout.file_bytes, bits, self.version)
        return outputs

    def _assemble(self, done: list[str], copies: dict[int, str], new_files: list[DataFile]) -> Manifest:
        files: dict[str, list[DataFile]] = {}
        if self.base:
            files = {split: list(part.files) for split, part in self.base.splits.items()}
            old = [file.path for part in files.values() for file in part]
            old += [
                f"{sample_status.FOLDER}/{name}"
                for name in storage.list_names(f"{self._base_folder}/{sample_status.FOLDER}")
            ]
            publishing.take_over(self._base_folder, self.staged, old)
        for file in new_files:
            files.setdefault(file.path.partition("/")[0], []).append(file)
        tables = map(sample_status.read, done)
        publishing.write_statuses(self.staged, self.version, publishing.settled(tables, copies))
        publishing.write_rejects(self.staged, map(sample_status.read, sample_status.of_version(self.staged)))
        publishing.write_metadata(self.staged, self.schema, files)
        facts = statistics.of_statuses(map(sample_status.read, sample_status.of_version(self.staged)))
        if not facts.counts[WRITTEN]:
            raise UserError(f"None of the {facts.counts['read']} samples became an image: {facts.rejects}.")
        rows = sum(file.rows for part in files.values() for file in part)
        if rows != facts.numbers["patches"]:  # would be a bug of ours; better no version than one with a hole
            raise RuntimeError(f"{facts.numbers['patches']} patches were cut, but {rows} rows are in the files")
        return self._manifest(facts, files)

    def _manifest(self, facts: statistics.Statistics, files: dict[str, list[DataFile]]) -> Manifest:
        return Manifest(
            version=self.version,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            schema=self.schema,
            splits={split: Split(sum(file.rows for file in part), tuple(part)) for split, part in files.items()},
            counts=facts.counts,
            rejects=facts.rejects,
            configuration=self.settings.model_dump(mode="json"),
            source={"fingerprint": facts.fingerprint, "read_before": self.plan.known},
            statistics=facts.numbers,
            meanings={name: {"classes": list(classes)} for name, classes in self.listing.classes.items()},
        )


def _run_name(settings: PreprocessSettings, plan: Plan, version: int) -> str:
    """The same for a killed run and its successor, another when source or configuration have changed in between."""
    configuration = settings.model_dump(mode="json", exclude={"work", "max_rejected_share"})
    text = json.dumps([configuration, plan.fingerprint, plan.items, version], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _written(urls: list[str]) -> pa.Table:
    """Columns of the samples that became patches: what copies are sought among. About 250 bytes a sample."""
    columns = [*duplicates.COLUMNS, "status"]
    empty = sample_status.ARROW_SCHEMA.empty_table().select(columns)
    tables = [
        table.filter(pc.equal(table["status"], WRITTEN)) for table in (sample_status.read(u, columns) for u in urls)
    ]
    return pa.concat_tables([empty, *(table.replace_schema_metadata(None) for table in tables)])


def _done_in(folder: str, sizes: Mapping[str, int]) -> int:
    """How much of a job is done, by the files that its tasks have left behind.

    Args:
        folder: where tasks leave them.
        sizes: file that a task leaves below ``folder`` -> how much is done with it.
    """
    parents = {name.rpartition("/")[0] for name in sizes}
    found = {f"{p}/{n}".lstrip("/") for p in parents for n in storage.list_names(storage.join(folder, p))}
    return sum(size for name, size in sizes.items() if name in found)
