"""The whole way from a source to a published version: list, plan, run, publish.

Killed at any moment and run again, it continues: the plan, finished tasks and finished files are kept in the dataset's
staging folder, under a name made from the source's fingerprint and the configuration.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gan_lib.core import storage
from gan_lib.core.errors import StoreUnavailable, TooManyRejects, UserError
from gan_lib.dataset.manifest import Manifest, is_committed, published_versions, version_url
from gan_lib.preprocessing import sample_status
from gan_lib.preprocessing.corpus_schema import require_same_fields, schema_of, with_classes
from gan_lib.preprocessing.duplicates.report import DUPLICATES_REPORT
from gan_lib.preprocessing.planning import plan_corpus
from gan_lib.preprocessing.publishing import staging, versions
from gan_lib.preprocessing.run import Run, next_version
from gan_lib.preprocessing.samples import UNAVAILABLE
from gan_lib.preprocessing.settings import PreprocessSettings
from gan_lib.preprocessing.sources.listing import Context

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
        """The table of rejects: name, reason, message."""
        return storage.read_bytes(self.manifest.url_of(self.url, versions.REJECTS)).decode()

    def duplicates_html(self) -> str | None:
        """The page that shows the near duplicates that were dropped; None where none were sought."""
        url = self.manifest.url_of(self.url, DUPLICATES_REPORT)
        return storage.read_bytes(url).decode() if storage.exists(url) else None


def preprocess(spark: SparkSession, settings: PreprocessSettings) -> Published:
    """Publish the source as a new version of the dataset, with all that the last version holds.

    Raises:
        UserError: the source is not there or empty, no sample could be used, the media do not suit the source, or the
            dataset's last version was made by another configuration.
    """
    settings = settings.model_copy(update={"output": storage.absolute(settings.output)})
    base = _last_version(settings)
    staging.sweep(settings.output, base.version if base else 0)
    manifest = _publish_new(spark, settings, base)
    if manifest is not None:
        url = version_url(settings.output, manifest.version)
        storage.sweep_folder(url)
        staging.sweep(settings.output, manifest.version)
        return Published(url, manifest, new=True)
    if base is None:
        raise UserError(f"The source holds no files: {settings.source.model_dump(exclude_none=True)}.")
    return Published(version_url(settings.output, base.version), base, new=False)


def _publish_new(spark: SparkSession, settings: PreprocessSettings, base: Manifest | None) -> Manifest | None:
    """What the version after ``base`` holds; None where nothing is new.

    Raises:
        UserError: another run was faster; then this one leaves nothing.
    """
    version = next_version(base)
    name = f"{version:06d}-plan-{uuid.uuid4().hex}"
    staged = [name]
    try:
        with staging.alive([staging.staging_url(settings.output, name)]):
            run = _planned(spark, settings, base, name)
            if run is not None:
                staged += [run.name, *(draft.rpartition("/")[2] for draft in run.plan.drafts)]
                return run.publish()
    except Exception as error:
        final = version_url(settings.output, version)
        if is_committed(final):
            # Whoever publishes removes what others have staged for the same version, so anything may have failed.
            staging.sweep(settings.output, version)
            raise versions.published_meanwhile(final) from error
        if isinstance(error, UserError):  # the same work would end so again
            _discard(settings, staged)
        raise
    _discard(settings, staged)
    return None


def _discard(settings: PreprocessSettings, staged: Sequence[str]) -> None:
    for name in staged:
        staging.discard(settings.output, name)


def _planned(spark: SparkSession, settings: PreprocessSettings, base: Manifest | None, name: str) -> Run | None:
    """The run that is to be done; None where nothing is new."""
    draft = staging.staging_url(settings.output, name)
    classes = _classes_of(base) if base else {}
    listing = settings.source.listing(Context(spark, storage.join(draft, "spool"), classes, settings.limits.max_bytes))
    listing = with_classes(listing, settings)
    schema = schema_of(settings, listing)
    known: list[str] = []
    if base is not None:
        require_same_fields(base, schema, listing)
        known = sample_status.of_version(version_url(settings.output, base.version))
    plan = plan_corpus(listing.frame, storage.join(draft, "listing"), known, settings.work.task_bytes)
    return Run(spark, settings, base, listing, plan) if plan.samples else None


def require_few_rejects(published: Published, settings: PreprocessSettings) -> None:
    """Let a scheduler know when much of the corpus was bad.

    Raises:
        TooManyRejects: more was rejected than the settings allow. The version is published all the same.
    """
    counts = published.manifest.counts
    if counts["rejected"] > settings.max_rejected_share * counts["read"]:
        raise TooManyRejects(
            f"{counts['rejected']} of {counts['read']} samples were rejected, more than the share of "
            f"{settings.max_rejected_share:g} that max_rejected_share allows; "
            f"{published.manifest.url_of(published.url, versions.REJECTS)} names each with its reason."
        )


def require_all_read(published: Published) -> None:
    """Let a scheduler know when a store did not give all that it has: it is to run the job again.

    Raises:
        StoreUnavailable: samples are left for the next run. The version is published without them.
    """
    left = published.manifest.source.get(UNAVAILABLE) if published.new else None
    if left:
        raise StoreUnavailable(
            f"{left['count']} samples could not be had now; {published.url} is published without them, and the next "
            f"run takes them up. The first: {left['first']}"
        )


def _last_version(settings: PreprocessSettings) -> Manifest | None:
    numbers = published_versions(settings.output)
    if not numbers:
        return None
    base = Manifest.load(version_url(settings.output, numbers[-1]))
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
