"""Killed with -9 at any moment and run again, preprocessing ends in the content of one clean run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gan_lib.dataset.manifest import published_versions
from gan_lib.preprocessing.preprocess import preprocess
from gan_lib.preprocessing.settings import PreprocessSettings
from tests.preprocessing.conftest import file_of, fill, image, rows_of, settings_of, status_of

SCRIPT = """
import sys
from gan_lib.preprocessing.preprocess import preprocess
from gan_lib.preprocessing.settings import PreprocessSettings
from gan_lib.cluster.session import spark_session

spark = spark_session("to be killed", spark__ui__enabled="false", spark__driver__memory="1g")
preprocess(spark, PreprocessSettings.model_validate_json(sys.argv[1]))
"""

MOMENTS = {
    "the listing is written": "_staging/*-plan-*/listing/*.parquet",
    "the first task is done": "_staging/*/done/*.parquet",
    "patches wait to be merged": "_staging/*/dropped-*.parquet",
    "the first file is written": "_files/*/*/*/part-*.parquet",
    "the manifest is next": "_staging/*/complete/*/*/_common_metadata",
}


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """300 images, some of them duplicates, some bad."""
    files = {f"{n % 5}/{n:03d}.png": file_of(image(n % 290)) for n in range(300)}
    return fill(tmp_path_factory.mktemp("images"), files | {"bad.png": b"no image", "empty.png": b""})


def settings_for(images: Path, output: Path) -> PreprocessSettings:
    return settings_of(
        {"kind": "folder", "path": str(images)},
        output,
        patches={"kind": "random", "side": 32, "count": 4},
        split={"test": 0.2},
        layout={"file_bytes": 200_000, "row_group_rows": 64},
        work={"task_bytes": 500_000, "threads": 1},
    )


@pytest.fixture(scope="module")
def clean(spark, images, tmp_path_factory):
    """The version that one clean run publishes."""
    return preprocess(spark, settings_for(images, tmp_path_factory.mktemp("clean") / "dataset"))


def assert_same_content(one, other):
    for split in ("train", "test"):
        assert rows_of(one, split) == rows_of(other, split) != []
    assert one.manifest.counts == other.manifest.counts
    assert one.manifest.statistics == other.manifest.statistics
    fates = [{name: (a["status"], a["reason"]) for name, a in status_of(p).items()} for p in (one, other)]
    assert fates[0] == fates[1]


def start(settings: PreprocessSettings) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    command = [sys.executable, "-c", SCRIPT, settings.model_dump_json()]
    return subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.DEVNULL)


def kill_when(process: subprocess.Popen[bytes], output: Path, sign: str) -> None:
    """Kill driver and JVM as soon as a file of that pattern appears, or let the process end before it does."""
    deadline = time.monotonic() + 240
    while process.poll() is None and not any(output.glob(sign)):
        assert time.monotonic() < deadline, f"{sign} never appeared"
        time.sleep(0.005)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize(
    "moment",
    [pytest.param(name, marks=[] if name == "the first task is done" else [pytest.mark.slow]) for name in MOMENTS],
)
def test_a_killed_driver_loses_and_doubles_nothing(spark, images, clean, tmp_path, moment):
    output = tmp_path / "dataset"
    settings = settings_for(images, output)
    kill_when(start(settings), output, MOMENTS[moment])
    assert published_versions(str(output)) == [], "it was to be killed before it published"
    assert not list(output.glob("versions/*")), "a reader could open what is not complete"
    assert_same_content(preprocess(spark, settings), clean)


def test_finished_tasks_are_not_done_again(spark, images, clean, tmp_path, monkeypatch):
    """An image that is destroyed after its task was finished is in the dataset all the same: it was not read again."""
    own = fill(
        tmp_path / "own",
        {path.relative_to(images).as_posix(): path.read_bytes() for path in images.glob("**/*.png")},
    )
    output = tmp_path / "dataset"
    settings = settings_for(own, output)

    class Stopped(Exception):
        pass

    def stop(*_args):
        raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr("gan_lib.preprocessing.run.merge", stop)
        with pytest.raises(Stopped):
            preprocess(spark, settings)
    for path in own.glob("**/*.png"):
        times = path.stat()
        path.write_bytes(bytes(times.st_size))
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert_same_content(preprocess(spark, settings), clean)


@pytest.mark.slow
def test_a_source_that_changed_in_between_is_read_anew(spark, images, tmp_path):
    own = fill(tmp_path / "own", {f"{n}.png": file_of(image(n)) for n in range(30)})
    output = tmp_path / "dataset"
    process = start(settings_for(own, output))
    kill_when(process, output, MOMENTS["the first task is done"])
    fill(own, {"new.png": file_of(image(1000))})
    (own / "0.png").unlink()
    published = preprocess(spark, settings_for(own, output))
    assert published.manifest.counts == {"read": 30, "written": 30, "rejected": 0, "duplicate": 0}
    assert "new.png" in status_of(published) and "0.png" not in status_of(published)
