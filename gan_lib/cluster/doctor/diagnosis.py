"""One examination of a cluster: look from the driver, ask the executors, and say what is missing."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from gan_lib.cluster.doctor.executors import ask_all
from gan_lib.cluster.doctor.findings import SAME_VERSION, findings
from gan_lib.cluster.doctor.locations import Location
from gan_lib.cluster.doctor.probe import examine, package_answer
from gan_lib.core import storage

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@dataclass(frozen=True)
class Needs:
    """What a job needs on every executor, beside its locations."""

    modules: tuple[str, ...] = ()
    """Packages of the user's own, by the name that they are imported by."""
    addresses: tuple[tuple[str, int], ...] = ()
    """Servers (host, port) that executors talk to."""
    gpus: bool = False
    """Whether each executor must see one."""


def diagnose(spark: SparkSession, locations: Sequence[Location], needs: Needs, timeout: float = 60.0) -> list[str]:
    """Sentences on what executors lack, and on the driver's disks; none where all is well.

    Args:
        spark: a session that does nothing else: what hangs is cancelled.
        locations: as :func:`locations.examined` made them ready.
        needs: what else the job needs there.
        timeout: seconds that executors have to answer.
    """
    here = _request([], Needs(modules=needs.modules), locations)
    driver = examine(here)
    driver["java"] = _java(spark)
    request = _request([one for one in locations if one.by_executors], needs, locations)
    asked = ask_all(spark, request, timeout)
    if package_answer("gan_lib")["code"] != driver["gan_lib"]["code"]:
        driver["gan_lib"]["code"] = ""  # somebody is writing it just now, so that nothing can be compared
    return findings(driver, asked, locations, needs.gpus)


def _request(here: Sequence[Location], needs: Needs, locations: Sequence[Location]) -> dict[str, Any]:
    # Disks of outputs count where the output is written: on the driver, and on executors where they go there too.
    outputs = [one for one in (here or locations) if one.written and storage.is_local(one.url)]
    return {
        "packages": _packages(),
        "modules": list(needs.modules),
        "locations": [asdict(one) for one in here],
        "disks": [[one.key, one.url] for one in outputs],
        "addresses": [list(address) for address in needs.addresses],
        "gpus": needs.gpus,
        "seconds": 0.0,
    }


def _packages() -> list[str]:
    """Distributions that gan_lib asks for; where it is not installed but only found, those that matter most."""
    try:
        asked = importlib.metadata.requires("gan_lib") or []
    except importlib.metadata.PackageNotFoundError:
        asked = []
    names = [re.split(r"[^\w.-]", one, maxsplit=1)[0] for one in asked if "extra ==" not in one]
    return sorted({*names, *SAME_VERSION} - {"python", "gan_lib"})


def _java(spark: SparkSession) -> str:
    try:
        return str(spark.sparkContext._jvm.java.lang.System.getProperty("java.version"))
    except Exception:
        return ""  # Spark Connect does not tell
