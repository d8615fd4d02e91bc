"""Runs all ranks to their end: starts them, reads their reports, starts again after a loss, or says why not."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gan_lib.core import storage
from gan_lib.core.errors import UserError
from gan_lib.training.launch.reports import Report, Reports
from gan_lib.training.launch.requirements import require
from gan_lib.training.launch.settings import LaunchSettings
from gan_lib.training.launch.timeline import moments_of_driver, spent
from gan_lib.training.launch.waiting_agent import WaitingAgent

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

logger = logging.getLogger(__name__)


class RanksFailed(RuntimeError):
    """Ranks ended badly; the message holds what each of them had to say, tracebacks included."""

    def __init__(self, reports: Mapping[int, Report], processes: int) -> None:
        self.reports = reports
        spoke = sorted((r for r in reports.values() if r.final), key=lambda report: not report.failed)
        lines = [str(report) for report in spoke]  # the culprits first, then who went down with them
        silent = [str(rank) for rank in range(processes) if rank not in reports or not reports[rank].final]
        if silent:
            lines.append(f"without a last word: rank {', '.join(silent)}")
        super().__init__("\n".join(["training failed:", *lines]))


@dataclass(frozen=True)
class Launched:
    """How a launch went."""

    results: list[Any]
    """What the function returned, by rank. None for scripts."""
    restarts: int
    """How often all ranks were started again because an executor was lost."""
    start: dict[str, float]
    """Seconds from spark-submit to rank 0's first line of work, by stage (see ``timeline``).

    Empty for a script, and after a restart, whose seconds are no start.
    """


def launch(
    spark: SparkSession,
    train_object: Callable[..., Any] | str,
    *arguments: Any,
    settings: LaunchSettings,
    folder: str,
    threads: int | None = None,
    agent: WaitingAgent | None = None,
) -> Launched:
    """Run a function or a script on all ranks until it has returned on every one.

    ``folder`` is where ranks report, on a store that the driver and all ranks reach. A function's results must be plain
    JSON values. ``threads`` are those of each rank for arithmetic; None: an equal share of what there is. A function
    that is run again after a lost executor must itself go on from where it was. ``agent``: one that was started for
    these settings and threads, see :func:`~gan_lib.training.launch.waiting_agent.agent_ahead`.

    Raises:
        LaunchError: something is missing before the start.
        RanksFailed: a rank raised, exited or was killed, or executors were lost more than ``settings.restarts`` times.
        UserError: a rank found the request wrong.
    """
    require(spark, settings)
    attempts = storage.join(storage.absolute(folder), "launches")
    storage.remove_tree(attempts)  # a driver that was killed left them; a folder has one training at a time
    threads = threads or _threads_of_a_rank(spark, settings)
    for restarts in range(settings.restarts + 1):
        launched = time.time()
        reports = Reports(storage.join(attempts, uuid.uuid4().hex))
        error = _attempt(reports, train_object, arguments, settings, threads, None if restarts else agent)
        found = reports.read()
        storage.remove_tree(attempts)  # the last words of a killed driver's ranks may have come after the start
        ordered = [found[rank] for rank in sorted(found)]
        if len(found) == settings.processes and all(report.state == "returned" for report in ordered):
            start = {} if restarts else _start_of(spark, launched, ordered[0])
            return Launched([report.result for report in ordered], restarts, start)
        if not _was_lost(ordered, settings.processes):
            break
        if restarts < settings.restarts:
            logger.warning("Ranks were lost; starting all again (%s of %s).", restarts + 1, settings.restarts)
    raise _explained(found, settings.processes) from error


def _attempt(
    reports: Reports,
    train_object: Callable[..., Any] | str,
    arguments: tuple[Any, ...],
    settings: LaunchSettings,
    threads: int,
    agent: WaitingAgent | None,
) -> Exception | None:
    """Run all ranks once; what Spark or torchrun raised, if anything. The truth is in the reports."""
    from gan_lib.training.launch.distributor import RankDistributor

    storage.make_folder(reports.folder)
    try:
        RankDistributor(settings, reports, threads, agent).run(train_object, *arguments)
    except Exception as error:
        return error
    return None


def _start_of(spark: SparkSession, launched: float, report: Report) -> dict[str, float]:
    if "called" not in report.times:
        return {}
    return spent({**moments_of_driver(spark), "launched": launched, **report.times})


def _was_lost(reports: list[Report], processes: int) -> bool:
    """Whether ranks vanished without a word, or the network broke between all of them, and none failed by itself."""
    if not reports or any(report.failed for report in reports):
        return False
    silent = processes - sum(report.final for report in reports)
    return silent > 0 or all(report.state == "cut off" for report in reports)


def _explained(found: Mapping[int, Report], processes: int) -> Exception:
    """The error to raise: the user's own where a rank found the request wrong, else every rank's story."""
    for report in found.values():
        if report.request_error is not None:
            return UserError(report.request_error)
    return RanksFailed(found, processes)


def _threads_of_a_rank(spark: SparkSession, settings: LaunchSettings) -> int:
    """An equal share of the machine's cores in local mode, of the task's on a cluster."""
    if settings.local:
        return settings.local_threads
    return int(spark.conf.get("spark.task.cpus", "1") or 1)
