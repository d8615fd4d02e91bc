"""From what machines answer to what the doctor says; no Spark cluster is started here."""

from __future__ import annotations

import copy
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import Field
from small_dataset import publish_patches

from gan_lib.cluster.doctor import probe
from gan_lib.cluster.doctor.executors import Asked, task_failures
from gan_lib.cluster.doctor.findings import LEAST_DISK, LEAST_MEMORY, findings
from gan_lib.cluster.doctor.locations import Location, examined, locations_in
from gan_lib.core import config
from gan_lib.core.config import Settings, Url

DRIVER: dict[str, Any] = {
    "host": "alpha",
    "executor": "driver",
    "python": "3.11",
    "versions": {"numpy": "1.26.4", "torch": "2.13.0", "tqdm": "4.66"},
    "modules": {"mine": ""},
    "gan_lib": {"problem": "", "version": "0.1.0", "code": "abc"},
    "java": "17.0.15",
    "disks": [{"key": "TMPDIR", "folder": "/tmp", "free": LEAST_DISK, "disk": 1}],
    "free_memory": LEAST_MEMORY,
    "gpus": None,
    "locations": {},
    "addresses": {},
    "skew": [-1.0, 1.0],
}
STORE = Location("checkpoint.folder", "/checkpoints", written=True)
INPUT = Location("data.url", "/data", written=False)


def answer_of(host: str, executor: str, **changes: Any) -> dict[str, Any]:
    """A machine that is like the driver's, but for ``changes``."""
    return {**copy.deepcopy(DRIVER), "host": host, "executor": executor, **changes}


def told(*answers: dict[str, Any], gpus: bool = False) -> list[str]:
    """What is said of these executors."""
    asked = Asked({f"{answer['host']} executor {answer['executor']}": answer for answer in answers})
    return findings(DRIVER, asked, [STORE, INPUT], gpus)


def test_of_machines_that_are_like_the_driver_nothing_is_said():
    assert told(answer_of("beta", "0"), answer_of("beta", "1")) == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"versions": {"numpy": "2.4", "torch": "2.13.0", "tqdm": "4.0"}, "python": "3.12"},
            "On beta (executor 0) python is 3.12 instead of 3.11, numpy is 2.4 instead of 1.26.4: "
            "install what the driver has.",
        ),
        (
            {"gan_lib": {"problem": "", "version": "", "code": ""}},
            "On beta (executor 0) there is no gan_lib: install there what the driver has; "
            "gan_lib alone can also be sent by --py-files.",
        ),
        (
            {"gan_lib": {"problem": "SyntaxError: no", "version": "", "code": ""}},
            "On beta (executor 0) gan_lib cannot be imported (SyntaxError: no): install what it needs.",
        ),
        (
            {"gan_lib": {"problem": "", "version": "0.1.0", "code": "abd"}},
            "On beta (executor 0) the code of gan_lib is not the driver's, though both are called 0.1.0: "
            "install the same there.",
        ),
        (
            {"modules": {"mine": "it is not installed"}},
            "On beta (executor 0) mine cannot be imported, and the job needs it there: "
            "it is not installed; install it.",
        ),
        (
            {"java": "21.0.2"},
            "On beta (executor 0) Spark runs on Java 21, on the driver on 17: set JAVA_HOME to the same there.",
        ),
        (
            {"free_memory": LEAST_MEMORY - 2**20},
            "On beta (executor 0) 511 MiB of memory are free, less than 512 MiB: lower spark.executor.memory or "
            "spark.executor.cores, or end what else runs there.",
        ),
        ({"skew": [1.9, 2.5]}, None),
        (
            {"skew": [3.2, 4.0]},
            "On beta (executor 0) the clock is at least 3 s ahead of the driver's: set the clocks by NTP.",
        ),
        (
            {"skew": [-60.0, -59.0]},
            "On beta (executor 0) the clock is at least 59 s behind the driver's: set the clocks by NTP.",
        ),
        (
            {"locations": {"checkpoint.folder": ["absent", "no such file"], "data.url": []}},
            "checkpoint.folder = /checkpoints is not the same place on beta (executor 0) as on the driver: "
            "name a store that all machines reach.",
        ),
        (
            {"locations": {"checkpoint.folder": ["unwritable", "Permission denied"]}},
            "checkpoint.folder = /checkpoints cannot be written to on beta (executor 0) (Permission denied): "
            "give the executors' user the right to.",
        ),
        (
            {"locations": {"data.url": ["absent", "no such file"]}},
            "data.url = /data: on beta (executor 0) there is not what the driver sees there: "
            "name a store that all machines reach.",
        ),
        (
            {"addresses": {"mlflow:5000": "timed out"}},
            "On beta (executor 0) MLflow does not answer at mlflow:5000 (timed out): "
            "rank 0 logs from there, so open it.",
        ),
    ],
)
def test_what_is_wrong_with_a_machine_is_one_sentence(changes: dict[str, Any], sentence: str | None):
    assert told(answer_of("beta", "0", **changes)) == ([sentence] if sentence else [])


def test_a_full_disk_is_named_once_however_many_folders_and_executors_share_it():
    disks = [{"key": key, "folder": f"/{key}", "free": 2**20, "disk": 7} for key in ("TMPDIR", "SPARK_LOCAL_DIRS")]
    assert told(answer_of("beta", "0", disks=disks), answer_of("beta", "1", disks=disks)) == [
        "On beta (executors 0 and 1) the disk of /TMPDIR (TMPDIR) has 1 MiB free, less than 1.0 GiB: "
        "make room there, or name a folder on another disk."
    ]


def test_of_many_machines_with_one_trouble_a_few_are_named():
    lacking = [answer_of(f"m{number}", "0", java="21") for number in range(7)]
    (sentence,) = told(*lacking)
    assert sentence.startswith("On m0 (executor 0), m1 (executor 0), ") and "and 2 more machines Spark" in sentence


def test_gpus_are_asked_for_only_where_the_launch_wants_them():
    assert told(answer_of("beta", "0", gpus=0)) == []
    (sentence,) = told(answer_of("beta", "0", gpus=0), gpus=True)
    assert "no GPU is to be seen" in sentence


def test_executors_that_fail_or_say_nothing_are_named():
    error = (
        "Job aborted due to stage failure: Task 0 in stage 2.0 failed 4 times, most recent failure: Lost task 0.3 in "
        'stage 2.0 (TID 9) (10.0.0.4 executor 3): java.io.IOException: Cannot run program "python3": error=2, No such '
        "file or directory\n\tat java.base/java.lang.ProcessBuilder.start(ProcessBuilder.java:1143)"
    )
    assert findings(DRIVER, Asked(failures=task_failures(error), silent=("5",)), [], False) == [
        'On 10.0.0.4 (executor 3) Spark\'s Python does not run (java.io.IOException: Cannot run program "python3": '
        "error=2, No such file or directory): let PYSPARK_PYTHON name the driver's Python there too.",
        "Executor 5 did not answer in time: see its log, and whether its disks hang.",
    ]
    assert findings(DRIVER, Asked(), [], False)[0].startswith("No executor took a task in time")


class Below(Settings):
    """Settings below others."""

    url: Url
    by_name: dict[str, Url] = Field(default_factory=dict)


class Above(Settings):
    """Settings with all kinds of URLs."""

    output: Below
    vgg: Url | None = None
    other: str = "/no/url"


def test_every_url_of_nested_settings_is_found_with_its_key():
    settings = Above(output=Below(url="/a", by_name={"x": "s3://b/c"}), vgg="/d")
    assert [(one.key, one.url, one.written) for one in locations_in(settings)] == [
        ("output.url", "/a", True),
        ("output.by_name.x", "s3://b/c", False),
        ("vgg", "/d", False),
    ]


@pytest.fixture
def doctor(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(repository)
    return importlib.import_module("jobs.doctor")


@pytest.mark.parametrize("file", sorted((Path(__file__).parents[2] / "conf").glob("*/*.yaml")), ids=lambda p: p.stem)
def test_the_doctor_knows_the_job_and_the_one_output_of_every_configuration(doctor: ModuleType, file: Path):
    job, settings = doctor.job_of(["--config", str(file)])
    assert job == file.parent.name
    # rollback moves an alias alone; what is imported may go into the registry alone, or be the start of a training
    outputs = (0,) if job == "rollback" else (0, 1) if job == "import_model" else (1,)
    assert len([one for one in locations_in(settings) if one.written]) in outputs


def test_the_folder_or_the_option_says_the_job(doctor: ModuleType, repository: Path, tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text((repository / "conf/train/srresnet.yaml").read_text())
    assert doctor.job_of(["--config", str(file), "--job", "train"])[0] == "train"
    with pytest.raises(config.UserError, match="add --job"):
        doctor.job_of(["--config", str(file)])


def test_what_the_driver_writes_is_seen_by_a_probe_and_gone_afterwards(tmp_path: Path):
    location = Location("output", str(tmp_path / "a" / "b"), written=True)
    problems: list[str] = []
    with examined([location], problems) as (ready,):
        one = {"url": ready.url, "written": True, "probe_file": ready.probe_file, "token": ready.token}
        assert probe.location_answer(one) == []
        assert probe.location_answer({**one, "token": "another"}) == ["elsewhere", ""]
        assert probe.location_answer({**one, "probe_file": "/nowhere/x"})[0] == "absent"
        assert os.listdir(ready.url) == [os.path.basename(ready.probe_file)]
    assert problems == [] and not list(tmp_path.iterdir())


def test_an_output_that_was_there_stays_with_all_that_lies_in_it(tmp_path: Path):
    (tmp_path / "result").write_text("kept")
    with examined([Location("output", str(tmp_path), written=True)], []):
        pass
    assert os.listdir(tmp_path) == ["result"]


def test_inputs_and_outputs_that_the_driver_cannot_use_have_a_sentence(tmp_path: Path):
    (tmp_path / "file").write_text("")
    problems: list[str] = []
    with examined(
        [
            Location("source.path", str(tmp_path / "gone"), written=False),
            Location("output", str(tmp_path / "file" / "below"), written=True),
        ],
        problems,
    ) as ready:
        assert ready == []
    assert problems[0] == (
        f"source.path = {tmp_path}/gone is not there: put the data there, or name the place where it is."
    )
    assert problems[1].startswith(f"output = {tmp_path}/file/below")


def test_the_probe_runs_by_value_in_a_python_that_has_nothing(tmp_path: Path):
    """As on an executor: unpickled, not imported, by an interpreter without any package, and with no site folder."""
    import pyspark
    from pyspark import cloudpickle

    cloudpickle.register_pickle_by_value(probe)
    (tmp_path / "probe.pickle").write_bytes(cloudpickle.dumps(probe.examine_as_text))
    request = {"packages": ["numpy", "pyspark"], "modules": ["torch"], "addresses": [["127.0.0.1", 1]], "gpus": True}
    request |= {"locations": [], "disks": [["output", "/"]], "seconds": 0}
    program = "import pickle, sys; print(pickle.load(open(sys.argv[1], 'rb'))(sys.argv[2]))"
    zips = (Path(pyspark.__file__).parent / "python" / "lib").glob("*.zip")
    done = subprocess.run(
        [sys.executable, "-S", "-c", program, str(tmp_path / "probe.pickle"), json.dumps(request)],
        env={"PYTHONPATH": os.pathsep.join(map(str, zips)), "PATH": "/usr/bin:/bin"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["versions"] == {"numpy": None, "pyspark": pyspark.__version__}
    assert answer["gan_lib"] == {"problem": "", "version": "", "code": ""}
    assert answer["modules"] == {"torch": "it is not installed"}
    assert answer["addresses"]["127.0.0.1:1"] and answer["disks"][-1]["free"] > 0


def test_where_all_is_well_the_doctor_says_so(spark, doctor: ModuleType, repository: Path, tmp_path: Path, capsys):
    (tmp_path / "data").mkdir()
    overrides = [
        f"data.url={publish_patches(tmp_path / 'data')}",
        f"checkpoint.folder={tmp_path}/training",
        f"tracking.uri=sqlite:///{tmp_path}/mlflow.db",
    ]
    flags = [part for override in overrides for part in ("--set", override)]
    doctor.main(["--config", str(repository / "conf/train/srresnet.yaml"), *flags])
    assert capsys.readouterr().out == "All is well: train has what it needs.\n"
    assert os.listdir(tmp_path) == ["data"]
