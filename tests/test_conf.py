"""Every file below conf/ is one that its job, or Spark, accepts; and every job tells what may be set."""

from __future__ import annotations

import importlib
import re
import shlex
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pydantic
import pytest
import yaml

from gan_lib import recipes
from gan_lib.core import config
from gan_lib.core.settings.listing import keys
from gan_lib.preprocessing.media import AnyMedium
from jobs import doctor

CONF = Path(__file__).parent.parent / "conf"


@pytest.fixture
def job_module(repository: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ModuleType:
    monkeypatch.syspath_prepend(repository)
    return importlib.import_module(f"jobs.{request.param}")


def settings_of(module: ModuleType) -> type[pydantic.BaseModel]:
    schema: type[pydantic.BaseModel] = getattr(module, doctor.SETTINGS[module.__name__.removeprefix("jobs.")])
    return schema


@pytest.mark.parametrize(
    ("job_module", "path"),
    [pytest.param(p.parent.name, p, id=f"{p.parent.name}/{p.name}") for p in sorted(CONF.rglob("*.yaml"))],
    indirect=["job_module"],
)
def test_a_jobs_configuration_is_valid(job_module: ModuleType, path: Path):
    settings = config.load(settings_of(job_module), path)
    tracking = getattr(settings, "root", settings).tracking
    assert tracking.experiment == "gan_lib"


@pytest.mark.parametrize("job_module", doctor.SETTINGS, indirect=True)
def test_every_setting_of_a_job_has_its_sentence(job_module: ModuleType):
    silent = [key.name for key in keys(settings_of(job_module)) if not key.sentence and not key.name.endswith("kind")]
    assert not silent


@pytest.mark.parametrize("job_module", doctor.SETTINGS, indirect=True)
def test_a_job_lists_its_settings_without_a_configuration(job_module: ModuleType, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stopped:
        job_module.main(["--settings"])
    assert stopped.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("tracking.pipeline: text or null; default null") for line in lines)


@pytest.mark.parametrize("job_module", ["train"], indirect=True)
def test_train_lists_the_settings_of_all_recipes_or_of_the_one_that_is_named(
    job_module: ModuleType, capsys: pytest.CaptureFixture[str]
):
    def listed(*argv: str) -> str:
        with pytest.raises(SystemExit):
            job_module.main(["--settings", *argv])
        return capsys.readouterr().out

    everything = listed()
    assert f"recipe.name: {' | '.join(recipes.names())}; required" in everything
    assert "recipe.crop (name: srresnet): integer > 0 or null; default null" in everything
    assert "recipe.penalty (name: wgan_gp)" in everything
    only = listed("--config", str(CONF / "train" / "srresnet.yaml"), "--set", "recipe.name=dcgan")
    assert "(name: dcgan)" in only and "(name: srresnet)" not in only


def commands_of_the_readme(repository: Path) -> list[list[str]]:
    """Each command that submits a job, as words."""
    text = (repository / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
    return [shlex.split(line) for line in text.splitlines() if line.strip().startswith("spark-submit")]


def test_every_command_of_the_readme_is_accepted_by_its_job(repository: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(repository)
    registered, asked = set(), set()
    commands = commands_of_the_readme(repository)
    assert len(commands) >= 6
    for words in commands:
        job = next(word for word in words if word.startswith("jobs/"))
        module = importlib.import_module(job.removesuffix(".py").replace("/", "."))
        overrides = [value for flag, value in pairwise(words) if flag == "--set"]
        settings = config.load(settings_of(module), repository / words[words.index("--config") + 1], overrides)
        if "spark://host:7077" not in words:
            continue
        settings = getattr(settings, "root", settings)
        if job == "jobs/train.py":
            registered.add(f"models:/{settings.model.name}@{settings.model.alias}")
        if job == "jobs/promote.py" and f"models:/{settings.model}@challenger" in registered:
            registered.add(f"models:/{settings.model}@champion")
        models = getattr(settings, "models", {})
        asked |= set(models.values()) | ({settings.model} if job == "jobs/score.py" else set())
    assert asked and asked <= registered, "the commands ask for a model that none before them has registered"


def test_every_medium_of_the_readme_is_one_and_none_is_missing(repository: Path):
    text = (repository / "README.md").read_text(encoding="utf-8")
    shown = [yaml.safe_load(found) for found in re.findall(r"`(\{kind: .*?\})`", text)]
    medium = pydantic.TypeAdapter(AnyMedium)
    kinds = {medium.validate_python(values).kind for values in shown}
    assert kinds == {"image", "label_map", "sound", "tokens", "array"}


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
    for option in (option for option in options.split() if option.startswith("-Dlog4j2.")):
        assert (repository / option.partition("=")[2]).is_file(), f"{option} names no file"
