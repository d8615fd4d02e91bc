"""What a launch needs is asked for by name, before anything starts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gan_lib.training.launch import LaunchError, LaunchSettings
from gan_lib.training.launch.requirements import require


def session(**properties: str) -> Any:
    """What :func:`require` reads of a Spark session: its properties, and no JVM to count slots in."""
    return SimpleNamespace(conf={key.replace("__", "."): value for key, value in properties.items()})


ON_A_CLUSTER = LaunchSettings(processes=2, local=False)
ON_GPUS = LaunchSettings(processes=2, local=False, gpus=True)


def test_a_plain_cluster_lacks_nothing() -> None:
    require(session(), ON_A_CLUSTER)


def test_a_cluster_with_one_gpu_a_task_lacks_nothing() -> None:
    require(session(spark__executor__resource__gpu__amount="4", spark__task__resource__gpu__amount="1"), ON_GPUS)


@pytest.mark.parametrize(
    ("properties", "settings", "sentence"),
    [
        ({"spark__ssl__enabled": "true"}, ON_A_CLUSTER, r"spark\.ssl\.enabled is true"),
        ({"spark__dynamicAllocation__enabled": "true"}, ON_A_CLUSTER, r"spark\.dynamicAllocation\.enabled is true"),
        ({}, ON_GPUS, r"spark\.executor\.resource\.gpu\.amount is not set"),
        ({"spark__executor__resource__gpu__amount": "1"}, ON_GPUS, r"spark\.task\.resource\.gpu\.amount is not set"),
        (
            {"spark__executor__resource__gpu__amount": "1", "spark__task__resource__gpu__amount": "0.25"},
            ON_GPUS,
            r"spark\.task\.resource\.gpu\.amount is 0\.25, and launch\.gpus needs 1",
        ),
    ],
)
def test_a_property_that_stops_a_launch_is_named(
    properties: dict[str, str], settings: LaunchSettings, sentence: str
) -> None:
    with pytest.raises(LaunchError, match=sentence):
        require(session(**properties), settings)


def test_encryption_that_was_waived_is_no_obstacle() -> None:
    require(session(spark__ssl__enabled="true", pytorch__spark__distributor__ignoreSsl="true"), ON_A_CLUSTER)


def test_more_ranks_than_gpus_of_this_machine_are_refused() -> None:
    settings = LaunchSettings(processes=torch.cuda.device_count() + 1, local=True, gpus=True)
    with pytest.raises(LaunchError, match=r"this machine shows \d+ CUDA devices"):
        require(session(), settings)


def test_the_backend_follows_the_devices_unless_told() -> None:
    assert LaunchSettings(gpus=True).transport == "nccl"
    assert LaunchSettings(gpus=False).transport == "gloo"
    assert LaunchSettings(gpus=True, backend="gloo").transport == "gloo"
