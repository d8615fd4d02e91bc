"""Asks every executor of a Spark session, by small tasks through the DataFrame API: it runs on Spark Connect too."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gan_lib.cluster.doctor import probe
from gan_lib.cluster.doctor.probe import Answer
from gan_lib.cluster.slots import concurrent_tasks

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_HOLD_SECONDS = 0.5  # that a task keeps its slot, so that all slots get one
_SETTLE_SECONDS = 3.0  # without a new executor, after which we believe that there will be no more
_LOST_TASK = re.compile(
    r"Lost task \S+ in stage \S+ \(TID \d+\) \((?P<host>\S+) executor (?P<executor>\S+)\): *(?P<why>.*)"
)
_PYTHON_ERROR = re.compile(r"(?!org\.|java\.|Caused by)[\w.]*(Error|Exception): ")
_TASKS_WHERE_UNKNOWN = 16
_MOST_STAGES, _MOST_TASKS = 64, 10_000  # of this session, that are looked through for failed tasks


@dataclass
class Asked:
    """What came of asking."""

    answers: dict[str, Answer] = field(default_factory=dict)
    """"HOST executor ID" -> the answer, with ``skew``: [least, most] seconds that its clock is ahead of the driver's"""
    failures: dict[str, str] = field(default_factory=dict)
    """executor that a task failed on -> why"""
    silent: tuple[str, ...] = ()
    """executors that Spark reports and that gave no answer, nor failed"""


def ask_all(spark: SparkSession, request: Mapping[str, Any], timeout: float = 60.0) -> Asked:
    """The answers of all executors to ``request`` (see :func:`probe.examine`), as far as they come within ``timeout``.

    A task for each slot at first. Where an executor fails its tasks, and so the whole, single tasks go on until every
    executor that Spark reports has answered or failed.
    """
    asked = Asked()
    deadline = time.monotonic() + timeout
    known = _settled(spark, deadline)
    tasks = concurrent_tasks(spark) or _TASKS_WHERE_UNKNOWN
    once = {**request, "seconds": _HOLD_SECONDS}
    _ask(spark, once, tasks, asked, min(deadline, time.monotonic() + timeout / 2))
    asked.failures.update(_failed_tasks(spark))
    while time.monotonic() < deadline and _missing(known, asked):
        with ThreadPoolExecutor(min(tasks, 32)) as pool:
            for _ in range(min(tasks, 32)):
                pool.submit(_ask, spark, once, 1, asked, deadline)
        known = known | _executors(spark)
        asked.failures.update(_failed_tasks(spark))
    # Now that Python is up everywhere, a short round tells the clocks better than the first one did.
    _ask(spark, {"clock_only": True, "seconds": 0.1}, tasks, asked, time.monotonic() + 10)
    asked.silent = tuple(sorted(_missing(known, asked)))
    for name in asked.answers:  # a task that failed where another one did not is not worth a word
        asked.failures.pop(name.rpartition(" executor ")[2], None)
    return asked


def _missing(known: frozenset[str], asked: Asked) -> set[str]:
    """Executors that Spark reports by id, less those that answered or failed."""
    heard = {answer["executor"] for answer in asked.answers.values()} | set(asked.failures)
    return set(known) - heard


def _ask(spark: SparkSession, request: Mapping[str, Any], tasks: int, asked: Asked, deadline: float) -> None:
    """One Spark job of so many tasks; what it finds out goes into ``asked``. Ended where the deadline passes."""
    outcome: dict[str, Any] = {}
    begun = time.time()

    def collect() -> None:
        try:
            outcome["answers"] = _collect(spark, request, tasks)
        except Exception as error:
            outcome["error"] = error

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    thread.join(max(0.0, deadline - time.monotonic()))
    ended = time.time()
    if thread.is_alive():
        _cancel(spark)
        thread.join(5)
    for answer in outcome.get("answers", ()):
        _add(asked, answer, begun, ended)
    if "error" in outcome:
        asked.failures.update(task_failures(str(outcome["error"])))


def task_failures(error: str) -> dict[str, str]:
    """Executor -> "HOST executor ID" and, in a second line, why it failed its task, from what a Spark job raised."""
    found = _LOST_TASK.finditer(error)
    return {
        lost["executor"]: f"{lost['host']} executor {lost['executor']}\n{_reason(error, lost['why'])}" for lost in found
    }


def _add(asked: Asked, answer: Answer, begun: float, ended: float) -> None:
    name = f"{answer['host']} executor {answer['executor']}"
    known = asked.answers.setdefault(name, {**answer, "skew": [answer["time"] - ended, answer["time"] - begun]})
    known["skew"] = [max(known["skew"][0], answer["time"] - ended), min(known["skew"][1], answer["time"] - begun)]


def _collect(spark: SparkSession, request: Mapping[str, Any], tasks: int) -> list[Answer]:
    from pyspark import cloudpickle
    from pyspark.sql import functions as F

    text = json.dumps(dict(request))
    examine_as_text = probe.examine_as_text

    def look(_: int) -> str:
        return examine_as_text(text)

    # By value: an executor that lacks our package must be able to say so. Arrow may be missing there as well.
    cloudpickle.register_pickle_by_value(probe)
    look.__module__ = "__main__"
    examine = F.udf(look, "string", useArrow=False).asNondeterministic()
    rows = spark.range(0, tasks, 1, tasks).select(examine("id").alias("answer")).collect()
    return [json.loads(row["answer"]) for row in rows]


def _failed_tasks(spark: SparkSession) -> dict[str, str]:
    """As :func:`task_failures`, of tasks whose second attempt went well elsewhere; empty where Spark does not tell."""
    try:
        store = spark.sparkContext._jsc.sc().statusStore()
        tasks = (store.taskList(stage, 0, _MOST_TASKS) for stage in range(_MOST_STAGES))
        each = (listed.apply(number) for listed in tasks for number in range(listed.size()))
        failed = [task for task in each if task.errorMessage().isDefined()]
        told = {str(task.executorId()): (str(task.host()), str(task.errorMessage().get())) for task in failed}
    except Exception:
        return {}
    lines = {executor: next(iter(error.splitlines()), "") for executor, (_, error) in told.items()}
    return {
        executor: f"{host} executor {executor}\n{_reason(error, lines[executor])}"
        for executor, (host, error) in told.items()
    }


def _reason(error: str, why: str) -> str:
    """The last line of Python's traceback, where there is one, else what Java said."""
    raised = [line.strip() for line in error.splitlines() if _PYTHON_ERROR.match(line.strip())]
    return (raised[-1] if raised else why)[:300]


def _settled(spark: SparkSession, deadline: float) -> frozenset[str]:
    """The executors that Spark reports, once no new one has come for a while; empty where Spark does not tell."""
    known, since = _executors(spark), time.monotonic()
    while time.monotonic() < deadline and is_cluster(spark) and time.monotonic() - since < _SETTLE_SECONDS:
        time.sleep(0.2)
        if (now := _executors(spark)) != known:
            known, since = now, time.monotonic()
        elif not known:
            since = time.monotonic()  # none at all yet: they may still be starting
    return known


def is_cluster(spark: SparkSession) -> bool:
    """Whether the session tells of executors beside the driver."""
    try:
        return not spark.sparkContext.master.startswith("local")
    except Exception:
        return False


def _executors(spark: SparkSession) -> frozenset[str]:
    """Ids of the executors that run now; empty in local mode and on Spark Connect."""
    try:
        ids = spark.sparkContext._jsc.sc().getExecutorIds()
        return frozenset(ids.apply(number) for number in range(ids.size()))
    except Exception:
        return frozenset()


def _cancel(spark: SparkSession) -> None:
    try:
        spark.sparkContext.cancelAllJobs()
    except Exception:
        spark.interruptAll()
