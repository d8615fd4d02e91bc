"""A typo in the configuration costs a second and a clear sentence."""

from __future__ import annotations

import subprocess
import sys
import typing
from pathlib import Path
from typing import Literal

import pydantic
import pytest

from gan_lib.core import config
from gan_lib.core.errors import DecisionNeeded, TooManyRejects, UserError, run_job


class Small(config.Settings):
    width: int = 3


class Square(config.Settings):
    side: int


class Job(config.Settings):
    small: Small = Small()
    shape: Small | Square = Small()
    rate: float = 0.1
    sizes: tuple[int, ...] = ()


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text("small: {width: 4}\nrate: 1.5e-4\n")
    return path


def test_overrides_win_and_are_read_as_yaml(conf: Path):
    settings = config.load(Job, conf, ["small.width=7", "sizes=[1, 2]"])
    assert settings == Job(small=Small(width=7), rate=1.5e-4, sizes=(1, 2))


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("small.widht=4", r"unknown key small\.widht \(did you mean width\?\)"),
        ("zzz=4", r"unknown key zzz \(what fits there: rate, shape, sizes, small\)"),
        ("small.width=wide", r"small\.width = 'wide' does not fit: input should be a valid integer"),
        ("rate", "is not of the form key=value"),
        ("rate.x=1", "rate holds the single value"),
        ("rate=[1", "not valid YAML"),
    ],
)
def test_what_does_not_fit_is_named_with_what_would(conf: Path, override: str, sentence: str):
    with pytest.raises(config.ConfigError, match=sentence):
        config.load(Job, conf, [override])


def test_a_missing_key_is_named(conf: Path):
    class Needs(Job):
        output: str

    with pytest.raises(config.ConfigError, match=r"the key output is missing; .*--set output="):
        config.load(Needs, conf)


@pytest.mark.parametrize("text", ["a: [", "- 1\n- 2\n", "just words"])
def test_a_file_that_is_no_mapping_is_refused_by_name(tmp_path: Path, text: str):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(config.ConfigError, match=r"broken\.yaml"):
        config.load(Job, path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(config.ConfigError, match=r"no configuration file .*absent\.yaml"):
        config.load(Job, tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("error", "code"),
    [(None, 0), (UserError, 2), (TooManyRejects, 3), (DecisionNeeded, 4), (ZeroDivisionError, 1)],
)
def test_each_kind_of_failure_has_its_exit_code(error: type[Exception] | None, code: int, capsys):
    def main() -> None:
        if error:
            raise error("what happened")

    if code == 0:
        run_job(main)
        return
    with pytest.raises(SystemExit) as stopped:
        run_job(main)
    assert stopped.value.code == code
    assert "what happened" in capsys.readouterr().err


@pytest.mark.parametrize("job", ["preprocess", "train", "evaluate", "score", "generate"])
def test_a_typo_stops_a_job_before_spark_is_imported(job: str, repository: Path):
    program = (
        "import runpy, sys; sys.argv = ['job', '--config', sys.argv[2], '--set', 'ouptut_typo=1']\n"
        f"try: runpy.run_path('jobs/{job}.py', run_name='__main__')\n"
        "except SystemExit as stop: print('code', stop.code, 'spark', 'py4j' in sys.modules and"
        " __import__('pyspark').SparkContext._active_spark_context is not None)"
    )
    conf = sorted((repository / "conf" / job).glob("*.yaml"))[0]
    result = subprocess.run(
        [sys.executable, "-c", program, "--config", str(conf)], cwd=repository, capture_output=True, text=True
    )
    assert "code 2 spark False" in result.stdout, result.stderr
    assert "unknown key ouptut_typo" in result.stderr


class Kept(config.Settings):
    folder: config.Url
    name: str = "kept"


class Places(config.Settings):
    one: config.Url
    maybe: config.Url | None = None
    many: tuple[config.Url, ...] = ()
    named: dict[str, config.Url] = {}  # noqa: RUF012
    below: Kept | Small = Small()
    word: str = "as/it/is"
    anything: config.Settings = Small()


def test_every_url_of_settings_becomes_absolute_at_any_depth_and_nothing_else_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    here = str(tmp_path)
    places = Places(
        one="a",
        maybe="b/c",
        many=("d", "/e"),
        named={"f": "g"},
        below=Kept(folder="h", name="i/j"),
        anything=Kept(folder="memory://k/l"),
    )
    assert config.with_absolute_urls(places) == Places(
        one=f"{here}/a",
        maybe=f"{here}/b/c",
        many=(f"{here}/d", "/e"),
        named={"f": f"{here}/g"},
        below=Kept(folder=f"{here}/h", name="i/j"),
        anything=Kept(folder="memory://k/l"),
    )


def test_an_empty_url_is_refused_by_its_key():
    with pytest.raises(config.ConfigError, match=r"one = '' does not fit: .*at least 1 character"):
        config.validate(Places, {"one": ""}, source="here")


class Chosen(config.Settings):
    only: typing.Annotated[
        typing.Any,
        config.ChosenByName(lambda: ["small", "square"], lambda name: {"small": Small, "square": Square}[name]),
    ]
    """Which shape."""


def listed(schema: type[pydantic.BaseModel], *argv: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        config.from_command_line(schema, "A job.", ["--settings", *argv])
    assert stopped.value.code == 0
    return capsys.readouterr().out


def test_settings_lists_every_key_with_type_default_and_sentence(capsys: pytest.CaptureFixture[str]):
    class Disc(config.Settings):
        kind: Literal["disc"] = "disc"
        radius: float = pydantic.Field(1.5, gt=0, le=9)
        """From the middle
        to the edge."""

    class Box(config.Settings):
        kind: Literal["box"]
        side: int

    class Drawn(config.Settings):
        output: config.Url
        """Where it goes."""
        shape: typing.Annotated[Disc | Box, pydantic.Field(discriminator="kind")] = Disc(radius=2)
        small: Small = Small(width=5)
        names: tuple[str, ...] | None = None

    assert listed(Drawn, capsys=capsys).splitlines() == [
        "output: path or URL; required",
        "    Where it goes.",
        'shape.kind: disc | box; default "disc"',
        "shape.radius (kind: disc): number > 0 <= 9; default 2.0",
        "    From the middle to the edge.",
        "shape.side (kind: box): integer; required",
        "small.width: integer; default 5",
        "names: list of text or null; default null",
    ]


def test_settings_chosen_by_name_are_listed_for_all_names_or_for_the_one_configured(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    assert listed(Chosen, capsys=capsys).splitlines() == [
        "only.name: small | square; required",
        "    Which shape.",
        "only.width (name: small): integer; default 3",
        "only.side (name: square): integer; required",
    ]
    assert "width" not in listed(Chosen, "--set", "only.name=square", capsys=capsys)
    (tmp_path / "job.yaml").write_text("only: {name: small}\n")
    assert "side" not in listed(Chosen, "--config", str(tmp_path / "job.yaml"), capsys=capsys)


def test_without_settings_a_configuration_is_required(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stopped:
        config.from_command_line(Job, "A job.", [])
    assert stopped.value.code == 2
    assert "required: --config" in capsys.readouterr().err


class Disc(config.Settings):
    kind: Literal["disc"]
    radius: float = 1.0


class Box(config.Settings):
    kind: Literal["box"]
    sides: tuple[int, ...] = ()


class Drawing(config.Settings):
    shape: typing.Annotated[Disc | Box, pydantic.Field(discriminator="kind")]


class Either(pydantic.RootModel[typing.Annotated[Disc | Box, pydantic.Field(discriminator="kind")]]):
    """A job whose keys depend on one of them."""


@pytest.mark.parametrize(
    ("schema", "values", "sentence"),
    [
        (Drawing, {"shape": {"kind": "disc", "radios": 2}}, "unknown key shape.radios (did you mean radius?)"),
        (Drawing, {"shape": {"kind": "box", "radius": 2}}, "unknown key shape.radius (what fits there: kind, sides)"),
        (Drawing, {"shape": {"kind": "box", "sides": 2}}, "shape.sides = 2 does not fit"),
        (Drawing, {"shape": {"kind": "ball"}}, "shape.kind = 'ball' does not fit: it may be disc, box"),
        (Drawing, {"shape": {}}, "the key shape.kind is missing"),
        (Either, {"kind": "disc", "radios": 2}, "unknown key radios (did you mean radius?)"),
        (Either, {"kind": "disc", "radius": "x"}, "radius = 'x' does not fit"),
        (Either, {"radius": 2}, "the key kind is missing"),
    ],
)
def test_a_key_below_a_union_is_named_as_it_is_set(schema: type[pydantic.BaseModel], values: dict, sentence: str):
    with pytest.raises(config.ConfigError) as refused:
        config.validate(schema, values, source="here")
    assert sentence in str(refused.value)


def test_what_all_kinds_of_a_union_have_is_listed_once(capsys: pytest.CaptureFixture[str]):
    class Round(Disc):
        kind: Literal["round"]
        depth: int

    class Deep(config.Settings):
        kind: Literal["deep"]
        depth: int

    class Whole(pydantic.RootModel[typing.Annotated[Disc | Round, pydantic.Field(discriminator="kind")]]):
        """Two kinds with one key in common."""

    class Named(config.Settings):
        shapes: dict[str, typing.Annotated[Disc | Round | Deep, pydantic.Field(discriminator="kind")]]

    assert listed(Whole, capsys=capsys).splitlines() == [
        "kind: disc | round; required",
        "radius: number; default 1.0",
        "depth (kind: round): integer; required",
    ]
    assert listed(Named, capsys=capsys).splitlines() == [
        "shapes.NAME.kind: disc | round | deep; required",
        "shapes.NAME.radius (kind: disc | round): number; default 1.0",
        "shapes.NAME.depth (kind: round | deep): integer; required",
    ]


class Picked(config.Settings):
    only: typing.Annotated[
        dict[str, typing.Any], config.ChosenByName(lambda: ["small"], lambda name: {"small": Small}[name])
    ]

    @pydantic.field_validator("only", mode="after")
    @classmethod
    def _typed(cls, values: dict[str, typing.Any]) -> dict[str, typing.Any]:
        Small.model_validate({key: value for key, value in values.items() if key != "name"})
        return values


def test_a_typo_in_settings_chosen_by_name_is_answered_from_their_own_class():
    with pytest.raises(config.ConfigError, match=r"unknown key only\.widht \(did you mean width\?\)"):
        config.validate(Picked, {"only": {"name": "small", "widht": 4}}, source="here")
