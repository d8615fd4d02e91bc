"""One enormous image and ten thousand small ones in one job, within a memory that does not follow their size."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pyarrow.dataset
import pytest
import pyvips
import simplejpeg
import torch
from bad_images import photo
from score_process import configuration, finish, start
from scoring_nets import URI, enlarger

from gan_lib.scoring.results.rows import SCORED
from gan_lib.scoring.results.tables import Tables
from gan_lib.tracking import TrackingSettings

WIDTH, HEIGHT = 12_000, 8_000
SMALL = 10_000
CORNER = 128  # pixels of the source that are compared
# What a worker may hold: the source's pixels, and 1.25 GB of Python, torch and what the pipeline holds of other
# images. The result alone, 48,000 x 32,000 pixels, is 4.6 GB.
MOST_MEGABYTES = WIDTH * HEIGHT * 3 / 1e6 + 1250


class Memory:
    """The largest memory of any one Python worker in a process's session, looked at again and again."""

    def __init__(self, process: subprocess.Popen) -> None:
        self._session = process.pid
        self.peak_megabytes = 0.0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look while the block runs."""
        done = threading.Event()

        def look() -> None:
            while not done.wait(0.1):
                self._look()

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _look(self) -> None:
        for pid in psutil.pids():
            with contextlib.suppress(psutil.Error, OSError):  # it has just ended
                if os.getsid(pid) == self._session and "pyspark.daemon" in psutil.Process(pid).cmdline():
                    self.peak_megabytes = max(self.peak_megabytes, held(pid))


def held(pid: int) -> float:
    """Megabytes that this process has resident, mapped files and what it shares with others included."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 / 1e6 if found else 0.0


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_an_enormous_image_and_ten_thousand_small_ones_fit_into_little_memory(
    registry: TrackingSettings, tmp_path: Path
) -> None:
    source = tmp_path / "in"
    (source / "small").mkdir(parents=True)
    enormous = photo(HEIGHT, WIDTH)
    (source / "enormous.jpg").write_bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(enormous), quality=90))
    for number in range(SMALL):
        pixels = np.ascontiguousarray(enormous[number // 2 :: 400, number % 100 :: 500][:20, :24])
        (source / "small" / f"{number:05d}.jpg").write_bytes(simplejpeg.encode_jpeg(pixels))
    del enormous
    config = configuration(tmp_path, URI, registry, output={"url": str(tmp_path / "out"), "format": "jpeg"})
    process = start(config)
    memory = Memory(process)
    with memory.watched():
        code, printed = finish(process, config, seconds=1200)
    assert code == 0, printed[-4000:]
    print(f"largest memory of a Python worker: {memory.peak_megabytes:.0f} MB")
    table = pyarrow.dataset.dataset(Tables(str(tmp_path / "out")).results).to_table(columns=["key", "status"])
    assert table.num_rows == SMALL + 1 and set(table["status"].to_pylist()) == {SCORED}
    assert len(list((tmp_path / "out" / "small").iterdir())) == SMALL
    assert_last_corner_is_right(source / "enormous.jpg", tmp_path / "out" / "enormous.jpg")
    assert 0 < memory.peak_megabytes <= MOST_MEGABYTES


def assert_last_corner_is_right(source: Path, result: Path) -> None:
    artifact = enlarger()
    assert artifact.halo is not None and artifact.halo < CORNER
    image = pyvips.Image.new_from_file(str(result), access="sequential")
    assert (image.width, image.height) == (4 * WIDTH, 4 * HEIGHT)
    side = 4 * (CORNER - artifact.halo)
    found = image.crop(image.width - side, image.height - side, side, side).numpy()
    corner = simplejpeg.decode_jpeg(source.read_bytes())[-CORNER:, -CORNER:].copy()
    wanted = artifact.translate(torch.from_numpy(corner).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()
    assert np.abs(found.astype(int) - wanted[-side:, -side:]).mean() <= 4  # levels; what JPEG loses
