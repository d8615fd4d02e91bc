"""The wheel brings the shipped nets and the command, and enlarges a photo where nothing but it was installed."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan_lib.shipped import nets

MOST_BYTES = 2_000_000
"""Of a shipped net: everyone downloads them."""
MOST_CPU_SECONDS = 15.0
"""For one small photo, start of Python and imports included."""


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, for setuptools leaves a folder behind where it builds."""
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(repository / name, copy)
    shutil.copytree(repository / "gan_lib", copy / "gan_lib", ignore=shutil.ignore_patterns("__pycache__"))
    words = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", out, copy]
    subprocess.run([sys.executable, "-m", "pip", *map(str, words)], check=True, capture_output=True)
    return next(out.glob("*.whl"))


def test_the_wheel_holds_the_shipped_nets_and_the_command(wheel: Path):
    with zipfile.ZipFile(wheel) as content:
        sizes = {entry.filename: entry.file_size for entry in content.infolist()}
        entry_points = next(name for name in sizes if name.endswith("entry_points.txt"))
        assert "gan-lib = gan_lib.cli.main:main" in content.read(entry_points).decode().replace("=gan_lib", "= gan_lib")
    assert "enlarger-pixels" in nets.names()
    for name in nets.names():
        own = {file: sizes[f"gan_lib/shipped/{name}/{file}"] for file in (*nets.files_of(name), nets.CARD)}
        assert 0 < sum(own.values()) <= MOST_BYTES, name


@pytest.mark.slow  # a virtual environment, and a process that imports torch
def test_a_photo_is_enlarged_where_only_the_wheel_was_installed(wheel: Path, tmp_path: Path):
    """What the package needs is borrowed from this environment, by a path that does not lead to the checkout."""
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(tmp_path / "venv")}))
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = ["--python", str(python), "install", "--no-deps", "--no-index", "--force-reinstall", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True, capture_output=True)
    empty = tmp_path / "empty"
    empty.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    Image.fromarray(pixels).resize((96, 72), Image.Resampling.BICUBIC).save(tmp_path / "photo.jpg")

    where = [str(python), "-c", "import gan_lib, json; print(json.dumps(gan_lib.__path__))"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    found = subprocess.run(where, check=True, capture_output=True, text=True, cwd=empty, env=environment)
    assert json.loads(found.stdout) == [str(site / "gan_lib")]

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = ["enlarge", str(tmp_path / "photo.jpg"), "--output", "larger", "--model", "pixels"]
    command = str(tmp_path / "venv" / "bin" / "gan-lib")
    ended = subprocess.run([command, *words], capture_output=True, text=True, cwd=empty, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert ended.returncode == 0, ended.stderr
    assert Image.open(empty / "larger" / "photo.png").size == (384, 288)
    assert [path.name for path in empty.iterdir()] == ["larger"]
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < MOST_CPU_SECONDS
