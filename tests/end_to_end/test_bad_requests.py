"""What is wrong with a request is said in one sentence, with the exit code that a scheduler reads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def run_job(repository: Path, job: str, *overrides: str, config: str = "demo", **env: str) -> tuple[int, str]:
    """The exit code and the last line on stderr of ``jobs/JOB.py`` with a local Spark."""
    flags = [part for override in overrides for part in ("--set", override)]
    done = subprocess.run(
        [sys.executable, f"jobs/{job}.py", "--config", f"conf/{job}/{config}.yaml", *flags],
        cwd=repository,
        env=env,
        capture_output=True,
        text=True,
        timeout=200,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1, done.stderr
    return done.returncode, lines[0]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    import os

    return {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db", "PYSPARK_PYTHON": sys.executable}


def test_a_folder_that_is_not_there_is_named(repository: Path, tmp_path: Path, environment):
    code, sentence = run_job(
        repository, "preprocess", f"source.path={tmp_path}/absent", f"output={tmp_path}/out", **environment
    )
    assert code == 2 and f"{tmp_path}/absent" in sentence
    assert not (tmp_path / "out" / "versions").exists()


@pytest.mark.slow
def test_an_empty_folder_is_named(repository: Path, tmp_path: Path, environment):
    (tmp_path / "empty").mkdir()
    code, sentence = run_job(
        repository, "preprocess", f"source.path={tmp_path}/empty", f"output={tmp_path}/out", **environment
    )
    assert code == 2 and f"{tmp_path}/empty" in sentence


def test_a_dataset_that_is_not_there_is_named(repository: Path, tmp_path: Path, environment):
    code, sentence = run_job(repository, "train", f"data.url={tmp_path}/absent", config="srresnet", **environment)
    assert code == 2 and f"{tmp_path}/absent" in sentence


@pytest.mark.parametrize("job", [pytest.param("evaluate", marks=pytest.mark.slow), "score"])
def test_a_model_that_is_not_registered_is_named(job: str, repository: Path, tmp_path: Path, environment):
    model = "models={net: models:/absent@champion}" if job == "evaluate" else "model=models:/absent@champion"
    images = f"images={tmp_path}" if job == "evaluate" else f"input.folder={tmp_path}"
    code, sentence = run_job(repository, job, model, images, **environment)
    assert code == 2 and "absent" in sentence


def test_a_recipe_that_does_not_exist_is_named_with_those_that_do(repository: Path, environment):
    code, sentence = run_job(repository, "train", "recipe.name=srgam", config="srresnet", **environment)
    assert code == 2 and "srgam" in sentence and "srgan" in sentence


def test_without_java_the_sentence_says_what_to_install(repository: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    bare = {"PATH": str(tmp_path / "empty"), "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    code, sentence = run_job(repository, "preprocess", f"source.path={tmp_path}", f"output={tmp_path}/out", **bare)
    assert code == 2 and "Java 17 or 21" in sentence and "install" in sentence
