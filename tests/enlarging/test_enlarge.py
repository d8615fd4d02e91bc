"""``gan-lib enlarge``: files and folders in, larger photos out, each once, and a sentence for what is none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from gan_lib.enlarging.enlarge import enlarge as enlarge_photos
from gan_lib.enlarging.scratch import PREFIX, scratch_folder
from gan_lib.enlarging.settings import EnlargeSettings
from gan_lib.scoring.encoding import provenance
from gan_lib.scoring.model_sources import find_model
from gan_lib.scoring.settings import InterpolationSettings, TilingSettings

EVERYTHING = {"a.png", "d.png", "deep/b.png", "deep/er/c.png"}


def files_of(folder: Path) -> set[str]:
    """Hidden ones too."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def pixels_of(path: Path) -> np.ndarray:
    return np.array(PillowImage.open(path).convert("RGB"))


def expected(photo: Path, uri: str, interpolation: InterpolationSettings | None = None) -> np.ndarray:
    """The whole photo through the net at once."""
    batch = torch.from_numpy(pixels_of(photo)).permute(2, 0, 1).unsqueeze(0)
    return find_model(uri, interpolation=interpolation).load().translate(batch)[0].permute(1, 2, 0).numpy()


def alike(path: Path, pixels: np.ndarray) -> bool:
    """A batch of another size may round a value that lies between two levels to the other one."""
    return np.abs(pixels_of(path).astype(int) - pixels).max() <= 1


def test_a_folder_is_enlarged_with_all_below_it_by_the_same_names(enlarge, folder: Path, capsys):
    assert enlarge("photos", "--output", "larger") == 0
    assert files_of(folder / "larger") == EVERYTHING
    for name in ("a.png", "d.png"):
        assert alike(folder / "larger" / name, expected(folder / "photos" / name, "shipped:enlarger-gan"))
    assert "4 photos enlarged (" in capsys.readouterr().out


def test_files_and_folders_may_be_mixed_and_a_file_that_is_named_twice_is_enlarged_once(enlarge, folder: Path):
    assert enlarge("photos/d.png", "photos/deep", "photos/deep/b.jpg", "--output", "out", "--format", "jpeg") == 0
    assert files_of(folder / "out") == {"d.jpg", "deep/b.jpg", "deep/er/c.jpg"}


def test_run_again_it_keeps_what_is_done_and_makes_what_would_be_another(enlarge, folder: Path, capsys):
    enlarge("photos", "--output", "larger")
    before = {path: path.stat().st_mtime_ns for path in (folder / "larger").rglob("*.png")}
    (folder / "larger" / "d.png").unlink()
    assert enlarge("photos", "--output", "larger") == 0
    assert "1 photos enlarged" in capsys.readouterr().out
    assert [path.name for path, since in before.items() if path.stat().st_mtime_ns != since] == ["d.png"]
    assert enlarge("photos", "--output", "larger", "--model", "pixels") == 0
    assert "4 photos enlarged" in capsys.readouterr().out
    assert alike(folder / "larger/a.png", expected(folder / "photos/a.png", "shipped:enlarger-pixels"))


def test_the_output_may_lie_inside_the_folder_and_is_no_input(enlarge, folder: Path):
    for _ in range(2):
        assert enlarge(".", "--output", "larger") == 0
    assert files_of(folder / "larger") == {f"photos/{name}" for name in EVERYTHING}


def test_a_net_between_the_two_is_one_word(enlarge, folder: Path):
    between = InterpolationSettings(model="shipped:enlarger-pixels", alpha=0.8)
    assert enlarge("photos/a.png", "--output", "larger", "--interpolation", "0.8") == 0
    assert alike(folder / "larger/a.png", expected(folder / "photos/a.png", "shipped:enlarger-gan", between))
    assert not alike(folder / "larger/a.png", expected(folder / "photos/a.png", "shipped:enlarger-gan"))
    told = provenance.read(str(folder / "larger/a.png"))
    assert told is not None and told["version"].startswith("0.8 x ") and " + 0.2 x enlarger-pixels " in told["version"]


def test_any_scale_keeps_alpha(enlarge, folder: Path):
    PillowImage.new("RGBA", (30, 21), (200, 100, 50, 128)).save(folder / "photos/e.png")
    assert enlarge("photos/e.png", "--output", "larger", "--scale", "2.5") == 0
    found = PillowImage.open(folder / "larger/e.png")
    assert (found.mode, found.size) == ("RGBA", (75, 52)) and set(found.getchannel("A").getdata()) == {128}


def test_a_photo_in_tiles_is_the_whole_photo(shipped: Path, folder: Path):
    photo = folder / "wide.png"
    PillowImage.effect_noise((150, 70), 60).convert("RGB").save(photo)
    for side in (16, 512):
        settings = EnlargeSettings(output=f"out-{side}", tiling=TilingSettings(tile=side))
        assert enlarge_photos([str(photo)], settings).enlarged == 1
    assert np.array_equal(pixels_of(folder / "out-16/wide.png"), pixels_of(folder / "out-512/wide.png"))
    assert alike(folder / "out-16/wide.png", expected(photo, "shipped:enlarger-gan"))


def test_what_is_no_photo_has_a_sentence_and_the_others_are_enlarged(enlarge, folder: Path, capsys):
    photos = folder / "photos"
    (photos / "notes.txt").write_text("no photo")
    (photos / "empty.png").write_bytes(b"")
    (photos / "half.jpg").write_bytes((photos / "deep/b.jpg").read_bytes()[:200])
    (photos / "bomb.png").write_bytes(png_that_claims(60_000, 60_000))
    (photos / "nowhere.png").symlink_to(folder / "absent.png")
    os.mkfifo(photos / "pipe.png")
    os.mknod(os.fsencode(photos) + b"/not-utf8-\xff.png")
    assert enlarge("photos", "--output", "larger") == 3
    assert files_of(folder / "larger") == EVERYTHING
    told = capsys.readouterr()
    assert "4 photos enlarged" in told.out and "Traceback" not in told.err
    assert "error: 7 files have no result." in told.err
    for name in ("notes.txt", "empty.png", "half.jpg", "bomb.png", "nowhere.png", "pipe.png", "not-utf8-\\xff.png"):
        assert len([line for line in told.err.splitlines() if f"{name}: " in line]) == 1, name


def png_that_claims(width: int, height: int) -> bytes:
    import struct
    import zlib

    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + b"\0" * 50


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("absent.png", "--output", "larger"), "There is no file or folder absent.png."),
        (("photos", "--output", "photos/a.png"), "is a file: name a folder"),
        (("photos/a.png", "--output", "photos"), "would overwrite a photo"),
        (("photos", "--output", "photos"), "photos is the output too"),
        (("photos/deep", "photos/a.png", "--output", "photos"), "a.png would overwrite a photo"),
        (("nothing", "--output", "larger"), "There are no files to enlarge in nothing."),
        (("photos", "--output", "larger", "--model", "ga"), "There is no model ga: write models:/NAME@ALIAS"),
        (("photos", "--output", "larger", "--model", "shipped:x"), "there are: enlarger-gan, enlarger-pixels."),
        (("photos", "--output", "larger", "--interpolation", "1.5"), "interpolation.alpha = 1.5 does not fit"),
        (("photos", "--output", "larger", "--quality", "0", "--format", "jpeg"), "encoding.quality = 0 does not fit"),
        (("photos",), "the following arguments are required: --output"),
    ],
)
def test_a_wrong_request_is_refused_and_nothing_is_written(enlarge, folder: Path, capsys, words, sentence):
    (folder / "nothing").mkdir()
    before = files_of(folder)
    assert enlarge(*words) == 2
    told = capsys.readouterr().err
    assert sentence in told and "Traceback" not in told
    assert files_of(folder) == before and not (folder / "larger").exists()


def test_a_file_that_is_no_result_of_ours_is_not_overwritten(enlarge, folder: Path, capsys):
    (folder / "larger").mkdir()
    (folder / "larger/a.png").write_bytes((folder / "photos/d.png").read_bytes())
    assert enlarge("photos/a.png", "photos/d.png", "--output", "larger") == 3
    assert (folder / "larger/a.png").read_bytes() == (folder / "photos/d.png").read_bytes()
    assert files_of(folder / "larger") == {"a.png", "d.png"}
    assert "is no result of gan_lib: move it, or name another output" in capsys.readouterr().err


def test_a_full_disk_ends_it_in_a_sentence_and_what_is_done_is_kept(enlarge, folder: Path, capsys, monkeypatch):
    from gan_lib.core.errors import MachineInTrouble
    from gan_lib.scoring.encoding import encoders

    def full(*args: object) -> None:
        raise MachineInTrouble("No space left on device")

    enlarge("photos/a.png", "--output", "larger")
    monkeypatch.setattr(encoders, "to_file", full)
    assert enlarge("photos/a.png", "photos/d.png", "--output", "larger") == 1
    assert "No space left on device. What is done is kept" in capsys.readouterr().err
    assert files_of(folder / "larger") == {"a.png"}


def test_the_command_begins_without_spark_mlflow_or_pandas(folder: Path):
    code = "import sys, gan_lib.enlarging.enlarge; print(*{'pyspark', 'mlflow', 'pandas'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


def test_who_is_killed_while_writing_leaves_no_half_photo(enlarge, folder: Path, stand_ins: Path):
    code = (
        "import time; from pathlib import Path; from gan_lib.shipped import nets; from gan_lib.core import storage;"
        f"nets._root = lambda: Path({str(stand_ins)!r});"
        "storage._synchronised = lambda file: (file.flush(), print('writing', flush=True), time.sleep(60));"
        "from gan_lib.cli.main import main; main(['enlarge', 'photos/a.png', '--output', 'larger'])"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGKILL)
    assert all(name.startswith(PREFIX) for name in files_of(folder / "larger")) and files_of(folder / "larger")
    for left in (folder / "larger").iterdir():
        os.utime(left, (time.time() - 600,) * 2)
    assert enlarge("photos/a.png", "--output", "larger") == 0
    assert [path.name for path in (folder / "larger").iterdir()] == ["a.png"]


def test_a_run_at_work_keeps_its_scratch_folder(tmp_path: Path):
    with scratch_folder(str(tmp_path)) as first:
        os.utime(first, (0, 0))
        with scratch_folder(str(tmp_path)) as second:
            assert first != second and Path(first).is_dir() and Path(second).is_dir()
    assert not list(tmp_path.iterdir())
