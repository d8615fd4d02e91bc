"""Submitted by the tests: runs one behaviour after another on the cluster and prints how the driver heard of each."""

from __future__ import annotations

import json
import sys

import behaviours

from gan_lib.cluster.session import spark_session
from gan_lib.training.launch import LaunchSettings, RanksFailed, launch

TWO = LaunchSettings(processes=2, local=False, restarts=1)
CASES = {
    "raises late": (behaviours.raise_late, TWO, 1),
    "is killed": (behaviours.die, TWO, 1),
    "returns early": (behaviours.return_early, TWO, 1),
    "exits with 3": (behaviours.__file__, "3"),
}


def main(folder: str) -> None:
    """One line of JSON a case: the state and the detail of each rank."""
    spark = spark_session("failing ranks")
    for name, (train_object, *arguments) in CASES.items():
        try:
            launch(spark, train_object, *arguments, settings=TWO, folder=folder)
            heard = {}
        except RanksFailed as error:
            heard = {rank: [report.state, report.detail] for rank, report in error.reports.items()}
        print("heard " + json.dumps([name, heard]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
