"""What a photo is survives a net: alpha, 16 bits, grey, colour profile, EXIF and any scale; to the bit where it can."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import pyvips
import torch
from bad_images import encoded, photo
from photo_files import (
    EXIF_IFD,
    EXPOSURE_TIME,
    HEIGHT,
    MAKE,
    ORIENTATION,
    PIXEL_WIDTH,
    WIDTH,
    deep,
    deep_file,
    exif,
    photo_files,
    rgba,
    saved,
    wide_profile,
)
from PIL import Image, ImageCms
from scoring_nets import enlarger, unbuilt
from torch import Tensor, nn

from gan_lib.core.images import Limits, decode_photo, encode_png
from gan_lib.export.artifact import Artifact
from gan_lib.scoring.encoding import encoders, provenance
from gan_lib.scoring.inputs.photos import show_hidden
from gan_lib.scoring.pipeline import Pipeline, Request
from gan_lib.scoring.predictor import TilePredictor
from gan_lib.scoring.settings import EncodingSettings, ScoreSettings, TilingSettings
from gan_lib.scoring.tiling.alpha import enlarge_alpha
from gan_lib.scoring.tiling.canvas import DiskCanvas, MemoryCanvas
from gan_lib.scoring.tiling.tiles import plan, whole

LINEAGE = {"model": "m", "version": "7"}
FILES = photo_files()
MODES = {
    "plain.jpg": ("RGB", 8),
    "rgba.png": ("RGBA", 8),
    "rgba.webp": ("RGBA", 8),
    "grey alpha.png": ("LA", 8),
    "palette.png": ("RGB", 8),
    "palette alpha.png": ("RGBA", 8),
    "grey.png": ("L", 8),
    "grey.jpg": ("L", 8),
    "black and white.png": ("L", 8),
    "deep rgb.png": ("RGB", 16),
    "deep rgba.png": ("RGBA", 16),
    "deep grey.png": ("L", 16),
    "deep rgb.tif": ("RGB", 16),
    "deep grey.tif": ("L", 16),
    "ink.jpg": ("RGB", 8),
    "ink.tif": ("RGB", 8),
    "wide.png": ("RGB", 8),
    "wide.jpg": ("RGB", 8),
    "deep wide.png": ("RGB", 16),
    "rotated.jpg": ("RGB", 8),
    "rotated.png": ("RGB", 8),
    "one.png": ("RGB", 8),
    "one rgba.png": ("RGBA", 8),
}
"""Of the results, where the format holds everything."""


class Repeating(nn.Module):
    """Each pixel ``scale`` x ``scale`` times."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, images: Tensor) -> Tensor:
        return images.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)


class Blurring(nn.Module):
    """Twice as large, each pixel the mean of the 5x5 around it: what hides beside an edge would show."""

    def forward(self, images: Tensor) -> Tensor:
        means = nn.functional.avg_pool2d(images, 5, 1, 2, count_include_pad=False)
        return means.repeat_interleave(2, 2).repeat_interleave(2, 3)


def repeating(scale: int) -> Artifact:
    return unbuilt(Repeating(scale), halo=2, scale=scale)


def results(
    artifact: Artifact, contents: dict[str, bytes], format: str = "png", limits: Limits | None = None, **tiling: object
) -> dict[str, Request]:
    """Each request with its file as ``result``."""
    settings = EncodingSettings(format=format, quality=98)

    def finish(request: Request) -> None:
        assert request.canvas is not None
        request.tag = type(request.canvas), encoders.describe(request.canvas, settings)
        request.result = encoders.to_bytes(request.canvas, settings, LINEAGE)

    predictor = TilePredictor(artifact, torch.device("cpu"), TilingSettings(**tiling))
    requests = [Request(key, lambda content=content: content) for key, content in contents.items()]
    done = {request.key: request for request in Pipeline(predictor, limits or Limits(), finish).run(requests)}
    assert {request.reason for request in done.values()} == {None}, {r.key: r.message for r in done.values()}
    return done


def result(artifact: Artifact, content: bytes, format: str = "png", **tiling: object) -> bytes:
    return results(artifact, {"": content}, format, **tiling)[""].result


def pixels_of(content: bytes) -> np.ndarray:
    """(height, width, channels) as the file stores them."""
    image = pyvips.Image.new_from_buffer(content, "")
    return np.asarray(image.numpy()).reshape(image.height, image.width, image.bands)


def mode_of(content: bytes) -> tuple[str, int]:
    image = pyvips.Image.new_from_buffer(content, "")
    return {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[image.bands], {"uchar": 8, "ushort": 16}[image.format]


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


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff"])
@pytest.mark.parametrize("canvas_class", [MemoryCanvas, DiskCanvas])
def test_provenance_lives_beside_a_profile_and_exif(tmp_path, format: str, canvas_class: type) -> None:
    large = with_tag(wide_profile(), np.random.default_rng(0).bytes(300_000))  # longer than what is searched
    notes = decode_photo(FILES["rotated.jpg"]).metadata.exif
    canvas = canvas_class(90, 70, 3, 1)
    canvas.paste(whole(90, 70), np.random.default_rng(0).integers(0, 256, (90, 70, 3), np.uint8))
    canvas.metadata = type(canvas.metadata)(large, notes)
    path = tmp_path / f"a{encoders.SUFFIX[format]}"
    encoders.to_file(canvas, str(path), EncodingSettings(format=format), LINEAGE, str(tmp_path / "scratch"))
    assert provenance.read(str(path)) == LINEAGE
    opened = Image.open(path)
    opened.load()
    assert opened.info["icc_profile"] == large and opened.getexif()[MAKE] == "Camera & Sons"
    content = path.read_bytes()
    path.write_bytes(content[:-7])
    assert provenance.read(str(path)) is None


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
    assert show_hidden(pixels, np.zeros_like(alpha)) is pixels, "where nothing can be seen, nothing is nearer"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("scale", [2, 4])
def test_tiles_of_alpha_are_parts_of_the_enlarged_whole(dtype: type, scale: int) -> None:
    alpha = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (61, 83, 1), dtype)
    expected = enlarge_alpha(alpha, whole(61, 83), scale)
    canvas = MemoryCanvas(61 * scale, 83 * scale, 1, scale, np.dtype(dtype))
    for tile in plan(61, 83, 400, 1, 1):
        canvas.paste(tile, enlarge_alpha(alpha, tile, scale))
    assert np.array_equal(canvas.pixels, expected)


def test_the_colours_of_a_profile_are_not_converted_and_those_of_ink_are() -> None:
    pixels = photo(HEIGHT, WIDTH)
    assert np.array_equal(pixels_of(result(repeating(1), FILES["wide.png"])), pixels)
    made = pixels_of(result(repeating(1), FILES["ink.tif"])).astype(int)
    assert np.abs(made - np.asarray(Image.fromarray(pixels).convert("CMYK").convert("RGB"))).max() <= 1
    ink = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()  # fits no ink: Pillow's rule holds
    assert np.array_equal(
        pixels_of(result(repeating(1), saved(Image.fromarray(pixels).convert("CMYK"), "TIFF", icc_profile=ink))), made
    )


@pytest.mark.parametrize("name", ["rotated.jpg", "rotated.png"])
def test_a_rotated_photo_is_upright(name: str) -> None:
    made = pixels_of(result(repeating(1), FILES[name])).astype(int)
    assert np.abs(made - photo(HEIGHT, WIDTH)).mean() < 3


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


def with_tag(profile: bytes, body: bytes) -> bytes:
    """A profile that has a private tag besides."""
    (count,) = struct.unpack_from(">I", profile, 128)
    end = 132 + 12 * count
    old = [struct.unpack_from(">4sII", profile, 132 + 12 * index) for index in range(count)]
    table = b"".join(struct.pack(">4sII", name, offset + 12, length) for name, offset, length in old)
    values = profile[end:] + bytes(-len(profile) % 4)
    table += struct.pack(">4sII", b"priv", end + 12 + len(values), len(body))
    made = profile[4:128] + struct.pack(">I", count + 1) + table + values + body + bytes(-len(body) % 4)
    return struct.pack(">I", 4 + len(made)) + made


def png_with_profile(profile: bytes) -> bytes:
    body = b"p\0\0" + zlib.compress(profile)
    chunk = struct.pack(">I", len(body)) + b"iCCP" + body + struct.pack(">I", zlib.crc32(b"iCCP" + body))
    plain = encode_png(photo(HEIGHT, WIDTH))
    return plain[:33] + chunk + plain[33:]


def hostile_files() -> dict[str, bytes]:
    """Photos whose metadata are broken, huge or for another colour model."""
    plain = Image.fromarray(photo(HEIGHT, WIDTH))
    grey_profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    endless = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 0xFFFF) + struct.pack("<HHII", 0x8769, 4, 1, 8) * 400
    return {
        "a profile of 900 kB": png_with_profile(with_tag(wide_profile(), bytes(900_000))),
        "a profile of 3 MB": saved(plain, "JPEG", icc_profile=with_tag(wide_profile(), bytes(3_000_000))),
        "a profile longer than it says": saved(plain, "PNG", icc_profile=wide_profile() + bytes(100)),
        "a profile of noise": png_with_profile(np.random.default_rng(0).bytes(5000)),
        "a profile for no image": saved(plain, "PNG", icc_profile=grey_profile),
        "a profile that is cut": saved(plain, "JPEG", icc_profile=wide_profile()[:300]),
        "exif of noise": saved(plain, "JPEG", exif=b"Exif\0\0" + np.random.default_rng(0).bytes(500)),
        "exif that points to itself": saved(plain, "JPEG", exif=endless),
        "exif that ends at once": saved(plain, "WEBP", exif=b"Exif\0\0MM\0*"),
        "exif of 60 kB": saved(plain, "JPEG", exif=large_exif()),
    }


def large_exif() -> bytes:
    notes = exif()
    notes.get_ifd(EXIF_IFD)[0x927C] = bytes(60_000)  # MakerNote
    return notes.tobytes()


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff"])
def test_photos_with_hostile_metadata_are_enlarged_all_the_same(format: str) -> None:
    for name, request in results(repeating(4), hostile_files(), format).items():
        opened = Image.open(io.BytesIO(request.result))
        opened.load()
        assert opened.size == (4 * WIDTH, 4 * HEIGHT), name
        kept = name == "a profile of 900 kB"
        assert (opened.info.get("icc_profile") is not None) == kept, name
        notes = opened.getexif()
        assert dict(notes.get_ifd(EXIF_IFD)) == ({EXPOSURE_TIME: 0.25} if name == "exif of 60 kB" else {}), name


def test_the_pixels_of_a_profile_too_large_to_keep_are_brought_to_srgb() -> None:
    huge, small = (
        saved(Image.fromarray(photo(HEIGHT, WIDTH)), "TIFF", icc_profile=with_tag(wide_profile(), bytes(extra)))
        for extra in (3_000_000, 0)
    )
    made = pixels_of(result(repeating(1), huge)).astype(int)
    kept = Image.open(io.BytesIO(result(repeating(1), small)))
    shown = ImageCms.profileToProfile(kept, io.BytesIO(kept.info["icc_profile"]), ImageCms.createProfile("sRGB"))
    assert np.abs(made - np.asarray(shown)).max() <= 1
    assert np.abs(made - photo(HEIGHT, WIDTH)).max() > 20


def test_a_thumbnail_and_sizes_do_not_stay() -> None:
    notes = exif(orientation=8)
    notes.get_ifd(EXIF_IFD)[0xA003] = HEIGHT
    raw = bytearray(notes.tobytes())
    order, thumbnail_at = {b"II": "<", b"MM": ">"}[bytes(raw[6:8])], len(raw) - 6
    (count,) = struct.unpack_from(f"{order}H", raw, 14)
    struct.pack_into(f"{order}I", raw, 14 + 2 + 12 * count, thumbnail_at)  # the second directory: the thumbnail's
    raw += struct.pack(f"{order}HHHIIHHII", 2, 0x0201, 4, 1, thumbnail_at + 30, 0x0202, 4, 1, 4) + bytes(4) + b"tiny"
    content = saved(Image.fromarray(photo(HEIGHT, WIDTH)), "JPEG", exif=bytes(raw))
    assert b"tiny" in content and PIXEL_WIDTH in Image.open(io.BytesIO(content)).getexif().get_ifd(EXIF_IFD)
    made = result(repeating(4), content, "jpeg")
    assert b"tiny" not in made
    kept = Image.open(io.BytesIO(made)).getexif()
    assert set(kept) == {MAKE, EXIF_IFD} and dict(kept.get_ifd(EXIF_IFD)) == {EXPOSURE_TIME: 0.25}


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
