"""What Spark must be configured for before a training starts, said by property name instead of half an hour later."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gan_lib.cluster.slots import concurrent_tasks
from gan_lib.core.errors import UserError
from gan_lib.training.launch.settings import LaunchSettings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class LaunchError(UserError):
    """The ranks cannot be started as configured; the message names the property and the value that would do."""


def require(spark: SparkSession, settings: LaunchSettings) -> None:
    """Check everything that is known to stop a launch.

    Raises:
        LaunchError: a Spark property, a GPU or a task slot is missing.
    """
    if settings.local:
        if settings.gpus:
            _require_own_gpus(settings.processes)
        return
    _require_no_tls(spark)
    if spark.conf.get("spark.dynamicAllocation.enabled", "false") == "true":
        raise LaunchError(
            "spark.dynamicAllocation.enabled is true, and ranks that start together need a fixed set of executors: "
            "set it to false and spark.executor.instances to what the training needs."
        )
    if settings.gpus:
        _require_one_gpu_a_task(spark)
    _require_slots(spark, settings)


def _require_own_gpus(processes: int) -> None:
    import torch

    found = torch.cuda.device_count()
    if found < processes:
        raise LaunchError(
            f"launch.processes is {processes} with launch.gpus and launch.local, and this machine shows {found} CUDA "
            "devices: lower launch.processes, or set launch.gpus to false."
        )


def _require_no_tls(spark: SparkSession) -> None:
    encrypted = spark.conf.get("spark.ssl.enabled", "false") == "true"
    if encrypted and spark.conf.get("pytorch.spark.distributor.ignoreSsl", "false") != "true":
        raise LaunchError(
            "spark.ssl.enabled is true, and ranks exchange gradients in the clear: set "
            "pytorch.spark.distributor.ignoreSsl to true where the network between the executors is trusted."
        )


def _require_one_gpu_a_task(spark: SparkSession) -> None:
    for key, purpose in (
        ("spark.executor.resource.gpu.amount", "so that executors know of GPUs"),
        ("spark.task.resource.gpu.amount", "so that each rank owns one GPU"),
    ):
        amount = spark.conf.get(key, "") or ""
        whole = amount.isdigit() and int(amount) >= 1
        if not whole or (key == "spark.task.resource.gpu.amount" and amount != "1"):
            needed = "1" if key == "spark.task.resource.gpu.amount" else "the number of GPUs of an executor"
            raise LaunchError(f"{key} is {amount or 'not set'}, and launch.gpus needs {needed} there, {purpose}.")


def _require_slots(spark: SparkSession, settings: LaunchSettings) -> None:
    """All ranks start at once or none does: wait for executors to come up, then say how many slots are missing."""
    deadline = time.monotonic() + settings.wait_for_slots
    while (slots := concurrent_tasks(spark)) is not None and slots < settings.processes:
        if time.monotonic() >= deadline:
            raise LaunchError(
                f"launch.processes is {settings.processes}, and the cluster runs {slots} tasks at once: raise "
                "spark.executor.instances (or spark.cores.max), or spark.executor.cores over spark.task.cpus, "
                "or lower launch.processes."
            )
        time.sleep(1.0)
