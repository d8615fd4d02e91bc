"""A result on the disk becomes an image file like any other, in little memory, and never in part."""

from __future__ import annotations

import errno
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


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
def test_a_disk_that_is_full_while_it_is_encoded_is_an_error_of_the_disk(format: str) -> None:
    canvas = DiskCanvas(1000, 1000, 3, 1)
    canvas.paste(whole(1000, 1000), np.random.default_rng(0).integers(0, 255, (1000, 1000, 3), np.uint8))
    with pytest.raises(OSError) as raised:
        encoding._stream(canvas, "/dev/full", EncodingSettings(format=format), {})
    assert raised.value.errno == errno.ENOSPC


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_a_file_of_which_a_part_is_missing_has_no_provenance(tmp_path: Path, format: str) -> None:
    canvas = MemoryCanvas(300, 400, 3, 1)
    canvas.paste(whole(300, 400), np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8))
    path = tmp_path / f"a{encoding.SUFFIX[format]}"
    encoding.to_file(canvas, str(path), EncodingSettings(format=format), LINEAGE, str(tmp_path / "scratch"))
    content = path.read_bytes()
    assert len(content) > 2**16 and provenance.read(str(path)) == LINEAGE
    for length in (0, 1, 50, 3000, 2**16, 2**16 + 1, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        assert provenance.read(str(path)) is None, length


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
