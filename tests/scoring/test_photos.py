"""What a photo is survives a net: alpha, 16 bits, grey, colour profile, EXIF and any scale; to the bit where it can."""

from __future__ import annotations

import io

import numpy as np
import pytest
from bad_images import encoded, photo
from photo_files import (
    EXIF_IFD,
    EXPOSURE_TIME,
    FILES,
    HEIGHT,
    MAKE,
    MODES,
    ORIENTATION,
    PIXEL_WIDTH,
    WIDTH,
    deep,
    deep_file,
    rgba,
    wide_profile,
)
from photo_results import mode_of, pixels_of, repeating, result, results
from PIL import Image
from scoring_nets import enlarger, unbuilt
from torch import Tensor, nn

from gan_lib.core.images import encode_png
from gan_lib.scoring.inputs.photos import show_hidden
from gan_lib.scoring.settings import ScoreSettings
from gan_lib.scoring.tiling.alpha import enlarge_alpha
from gan_lib.scoring.tiling.canvas import DiskCanvas, MemoryCanvas
from gan_lib.scoring.tiling.tiles import plan, whole


class Blurring(nn.Module):
    """Twice as large, each pixel the mean of the 5x5 around it: what hides beside an edge would show."""

    def forward(self, images: Tensor) -> Tensor:
        means = nn.functional.avg_pool2d(images, 5, 1, 2, count_include_pad=False)
        return means.repeat_interleave(2, 2).repeat_interleave(2, 3)


@pytest.mark.parametrize("scale", [None, 2.5])
@pytest.mark.parametrize("canvas", ["memory", "disk"])
@pytest.mark.parametrize("format", ["png", "tiff"])
def test_every_kind_of_photo_comes_back_as_what_it_was(
    format: str, canvas: str, scale: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if canvas == "disk":
        monkeypatch.setattr("gan_lib.scoring.pipeline.MEGABYTE", 1 / 2**20)
    done = results(repeating(4), FILES, format, scale=scale)
    for name, request in done.items():
        side = (1, 1) if name.startswith("one") else (HEIGHT, WIDTH)
        expected = tuple(round((scale or 4) * length) for length in side)
        assert (request.height, request.width) == expected, name
        assert pixels_of(request.result).shape[:2] == expected, name
        assert mode_of(request.result) == MODES[name], name
        assert request.tag == (
            {"memory": MemoryCanvas, "disk": DiskCanvas}[canvas],
            {"mode": MODES[name][0], "bits": str(MODES[name][1])},
        )
        assert request.precision == "float32"
        opened = Image.open(io.BytesIO(request.result))
        assert (opened.info.get("icc_profile") or None) == (wide_profile() if "wide" in name else None), name
        assert opened.getexif().get(ORIENTATION, 1) == 1, name
        if name.startswith("rotated"):
            assert opened.getexif()[MAKE] == "Camera & Sons"
            notes = opened.getexif().get_ifd(EXIF_IFD)  # libvips, which writes what comes from the disk, adds its own
            assert notes[EXPOSURE_TIME] == 0.25 and notes.get(PIXEL_WIDTH, expected[1]) == expected[1]


@pytest.mark.parametrize("format", ["jpeg", "webp"])
@pytest.mark.parametrize("canvas", ["memory", "disk"])
def test_what_a_format_cannot_hold_is_brought_to_what_it_can(
    format: str, canvas: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if canvas == "disk":
        monkeypatch.setattr("gan_lib.scoring.pipeline.MEGABYTE", 1 / 2**20)
    for name, request in results(repeating(4), FILES, format).items():
        mode = MODES[name][0].rstrip("A") if format == "jpeg" else MODES[name][0].replace("L", "RGB").replace("LA", "A")
        assert mode_of(request.result) == (mode, 8), name
        assert request.tag[1] == {"mode": mode, "bits": "8"}, name
        opened = Image.open(io.BytesIO(request.result))
        assert (opened.info.get("icc_profile") or None) == (wide_profile() if "wide" in name else None), name
        if name.startswith("rotated"):
            assert opened.getexif()[MAKE] == "Camera & Sons" and opened.getexif().get(ORIENTATION, 1) == 1


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_net_that_repeats_pixels_gives_back_the_very_16_bit_values(suffix: str, channels: int) -> None:
    levels = np.random.default_rng(channels).integers(0, 65536, (40, 50, channels), np.uint16)
    if channels == 4:
        levels[..., 3] = np.maximum(levels[..., 3], 1)  # none is hidden
    for scale in (1, 2):
        made = pixels_of(result(repeating(scale), deep_file(levels, suffix), tile=16, precision="bfloat16"))
        if channels == 1 and scale == 1:
            assert np.array_equal(made, levels.repeat(3, 2)), "a net that keeps the size may bring colour into grey"
            continue
        seen = levels if channels < 4 else levels[..., :3]
        assert np.array_equal(made[..., : seen.shape[2]], seen.repeat(scale, 0).repeat(scale, 1))
        if channels == 4 and scale == 1:
            assert np.array_equal(made[..., 3:], levels[..., 3:])


def test_opaque_alpha_changes_no_bit() -> None:
    pixels = photo(40, 50)
    opaque = np.dstack([pixels, np.full((40, 50), 255, np.uint8)])
    for scale in (None, 2.5, 6):
        plain, kept = (
            pixels_of(result(enlarger(), encode_png(array), tile=32, scale=scale)) for array in (pixels, opaque)
        )
        assert np.array_equal(kept[..., :3], plain)
        assert (kept[..., 3] == 255).all()


@pytest.mark.parametrize("scale", [None, 1.5])
@pytest.mark.parametrize("format", ["png", "webp"])
def test_edges_have_no_halo_of_hidden_colours(format: str, scale: float | None) -> None:
    """Red is all that can be seen; green is there where nobody sees it."""
    pixels = rgba(40, 50)
    pixels[..., :3] = np.where(pixels[..., 3:] > 0, np.uint8([200, 10, 10]), np.uint8([0, 255, 0]))
    made = pixels_of(result(unbuilt(Blurring(), halo=4, scale=2), encode_png(pixels), format, scale=scale, tile=16))
    visible = made[..., 3] > 0
    assert visible.any() and (made[..., 3] == 0).any()
    assert np.abs(made[visible][:, :3].astype(int) - [200, 10, 10]).max() <= (1 if format == "png" else 12)
    white = pixels_of(result(unbuilt(Blurring(), halo=4, scale=2), encode_png(pixels), "jpeg", scale=scale))
    assert white[0, 0].min() > 250, "a JPEG shows white where nothing is"


def test_hidden_pixels_take_the_nearest_that_can_be_seen() -> None:
    pixels = np.arange(5, dtype=np.uint16)[None, :, None] * 1000
    alpha = np.array([0, 0, 7, 0, 9], np.uint16)[None, :, None]
    assert show_hidden(pixels, alpha)[0, :, 0].tolist()[:3] == [2000, 2000, 2000]
    assert show_hidden(pixels, alpha)[0, 4, 0] == 4000
    assert np.array_equal(show_hidden(pixels, np.zeros_like(alpha)), pixels), "where nothing is seen, nothing is nearer"
    assert show_hidden(pixels, np.ones_like(alpha)) is pixels


def test_hidden_pixels_are_filled_alike_however_many_rows_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (90, 40, 3), np.uint8)
    alpha = (random.random((90, 40, 1)) < 0.05).astype(np.uint8)
    whole_at_once = show_hidden(pixels, alpha)
    monkeypatch.setattr("gan_lib.scoring.inputs.photos._BAND", 16)
    assert np.array_equal(show_hidden(pixels, alpha), whole_at_once)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("scale", [2, 4])
def test_tiles_of_alpha_are_parts_of_the_enlarged_whole(dtype: type, scale: int) -> None:
    alpha = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (61, 83, 1), dtype)
    expected = enlarge_alpha(alpha, whole(61, 83), scale)
    canvas = MemoryCanvas(61 * scale, 83 * scale, 1, scale, np.dtype(dtype))
    for tile in plan(61, 83, 400, 1, 1):
        canvas.paste(tile, enlarge_alpha(alpha, tile, scale))
    assert np.array_equal(canvas.pixels, expected)


@pytest.mark.parametrize("scale", [0.01, 0.5, 1, 2.5, 3.999, 4, 7])
@pytest.mark.parametrize("size", [(1, 1), (1, 60), (33, 47)])
def test_any_scale_gives_the_nearest_size_and_leaves_flat_what_is_flat(scale: float, size: tuple[int, int]) -> None:
    flat = np.full((*size, 4), (10, 100, 250, 131), np.uint8)
    made = pixels_of(result(repeating(4), encode_png(flat), scale=scale))
    assert made.shape == (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)), 4)
    assert (made == (10, 100, 250, 131)).all()


def test_the_resize_is_antialiased() -> None:
    """Stripes one pixel wide, at a third of their size, are their mean and no new stripes."""
    stripes = np.zeros((60, 90, 3), np.uint8)
    stripes[:, ::2] = 255
    made = pixels_of(result(repeating(1), encode_png(stripes), scale=1 / 3)).astype(int)
    assert made.shape == (20, 30, 3) and np.abs(made[:, 3:-3] - 127.5).max() < 12


@pytest.mark.parametrize("scale", [0.7, 2.5, 5])
@pytest.mark.parametrize("name", ["rgba.png", "deep rgba.png", "grey alpha.png", "deep wide.png"])
def test_from_the_disk_a_resized_photo_is_the_one_from_memory(
    name: str, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    from_memory = pixels_of(result(enlarger(), FILES[name], scale=scale))
    monkeypatch.setattr("gan_lib.scoring.pipeline.MEGABYTE", 1 / 2**20)
    from_disk = pixels_of(result(enlarger(), FILES[name], scale=scale))
    assert np.abs(from_disk.astype(int) - from_memory).max() <= 1


def test_the_scale_is_among_the_settings_that_show_in_the_images_and_only_where_it_is_set() -> None:
    def digest(**tiling: object) -> str:
        output = {"url": "out"}
        return ScoreSettings(model="models:/m/1", input={"folder": "in"}, output=output, tiling=tiling).digest()

    assert len({digest(), digest(scale=None), digest(scale=2.5), digest(scale=4)}) == 3
    assert digest() == digest(scale=None)


def test_16_bit_images_do_not_share_a_batch_with_others() -> None:
    size = (HEIGHT, WIDTH)
    contents = {
        "a": encoded("PNG", photo(*size)),
        "b": deep_file(deep(3, *size), ".png"),
        "c": encoded("PNG", photo(*size, 1)),
    }
    made = results(enlarger(), contents)
    assert [made[name].tag[1]["bits"] for name in "abc"] == ["8", "16", "8"]
    for name in "abc":
        assert np.array_equal(pixels_of(made[name].result), pixels_of(result(enlarger(), contents[name])))
