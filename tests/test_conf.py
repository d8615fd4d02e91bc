"""Every file below conf/ is one that its job, or Spark, accepts."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from gan_lib.core import config

CONF = Path(__file__).parent.parent / "conf"
JOB_SETTINGS = {"preprocess": "PreprocessJob", "train": "TrainJob", "evaluate": "EvaluateJob", "score": "ScoreJob"}


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_jobs_configuration_is_valid(path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch):
    job = path.parent.name
    monkeypatch.syspath_prepend(repository)
    module = importlib.import_module(f"jobs.{job}")
    settings = config.load(getattr(module, JOB_SETTINGS[job]), path)
    assert settings.tracking.experiment == "gan_lib"


def properties(path: Path) -> dict[str, str]:
    """Spark's own format: a key, white space, its value; # begins a comment."""
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    return {key: value.strip() for key, value in (line.split(None, 1) for line in lines)}


@pytest.mark.parametrize("path", sorted((CONF / "cluster").glob("*.conf")), ids=lambda path: path.name)
def test_a_cluster_profile_is_taken_by_spark(path: Path, repository: Path):
    from pyspark import SparkConf

    values = properties(path)
    assert values and all(key.startswith("spark.") for key in values)
    taken = dict(SparkConf(loadDefaults=False).setAll(list(values.items())).getAll())
    assert taken == values
    options = values.get("spark.driver.extraJavaOptions", "")
    for option in options.split():
        assert (repository / option.partition("=")[2]).is_file(), f"{option} names no file"
