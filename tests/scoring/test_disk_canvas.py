"""A result on the disk becomes an image file like any other, in little memory, and never in part."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import numpy as np
import pytest
import pyvips
from bad_images import photo

from gan_lib.core.images import decode
from gan_lib.scoring.encoding import encoders as encoding
from gan_lib.scoring.encoding import provenance
from gan_lib.scoring.settings import EncodingSettings
from gan_lib.scoring.tiling.canvas import DiskCanvas, MemoryCanvas
from gan_lib.scoring.tiling.tiles import whole

LINEAGE = {"model": "m", "version": "7"}


@pytest.mark.parametrize(("format", "mean_error"), [("png", 0), ("jpeg", 2), ("webp", 8)])
def test_from_the_disk_it_is_the_image_that_it_is_from_memory(tmp_path: Path, format: str, mean_error: float) -> None:
    pixels = photo(61, 83)
    results = []
    for canvas_class in (DiskCanvas, MemoryCanvas):
        canvas = canvas_class(61, 83, 3, 1)
        canvas.paste(whole(61, 83), pixels)
        path = tmp_path / f"{canvas_class.__name__}{encoding.SUFFIX[format]}"
        encoding.to_file(canvas, str(path), EncodingSettings(format=format), LINEAGE, str(tmp_path / "scratch"))
        assert provenance.read(str(path)) == LINEAGE
        results.append(decode(path.read_bytes()).astype(int))
        canvas.close()
    assert np.abs(results[0] - pixels).mean() <= mean_error
    assert np.abs(results[0] - results[1]).mean() <= mean_error


def test_a_canvas_that_cannot_be_read_to_its_end_leaves_no_file(tmp_path: Path) -> None:
    canvas = DiskCanvas(400, 300, 3, 1)
    with open(canvas.path, "r+b") as file:
        file.truncate(200 * 300 * 3)
    with pytest.raises(pyvips.Error):
        encoding.to_file(canvas, str(tmp_path / "a.png"), EncodingSettings(), {}, str(tmp_path / "scratch"))
    assert [path.name for path in tmp_path.rglob("*")] == ["scratch"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_encoding_it_takes_a_small_part_of_its_size(tmp_path: Path) -> None:
    canvas = DiskCanvas(10_000, 12_000, 3, 1)  # 360 MB of zeros, in a file with holes
    before, most = resident(), 0
    done = threading.Event()

    def look() -> None:
        nonlocal most
        while not done.wait(0.01):
            most = max(most, resident())

    watcher = threading.Thread(target=look)
    watcher.start()
    settings = EncodingSettings(format="jpeg")
    encoding.to_file(canvas, str(tmp_path / "a.jpg"), settings, {}, str(tmp_path / "scratch"))
    done.set()
    watcher.join()
    assert most - before < 150


def resident() -> int:
    """Megabytes of this process, mapped files included."""
    found = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) // 1000
