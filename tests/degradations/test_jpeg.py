"""JPEG on the device against libjpeg."""

from __future__ import annotations

import io

import numpy as np
import pytest
import simplejpeg
import torch
from PIL import Image
from skimage import data

from gan_lib.degradations.canvas import Canvas
from gan_lib.degradations.jpeg import jpeg, random_jpeg
from gan_lib.degradations.settings import Jpeg

QUALITIES = [5, 30, 50, 75, 95, 100]


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return data.astronaut()


def ours(pixels: np.ndarray, *qualities: int) -> np.ndarray:
    images = torch.from_numpy(pixels.copy()).permute(2, 0, 1).expand(len(qualities), -1, -1, -1)
    return jpeg(Canvas.of(images), torch.tensor(qualities)).values.permute(0, 2, 3, 1).numpy()


def decoded(content: bytes) -> np.ndarray:
    grey = Image.open(io.BytesIO(content)).mode == "L"
    colorspace = "GRAY" if grey else "RGB"
    return simplejpeg.decode_jpeg(content, colorspace, fastdct=False, fastupsample=False).astype(float)


def accurately_encoded(pixels: np.ndarray, quality: int) -> bytes:
    """Pillow lets libjpeg take its accurate transform; simplejpeg does so from a quality of 96 on only."""
    content = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(content, "JPEG", quality=quality, subsampling=2)
    return content.getvalue()


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("size", [(96, 128), (77, 101), (16, 7)])
def test_a_compressed_photo_is_libjpegs_to_a_quarter_of_a_level(quality: int, size: tuple[int, int], photo: np.ndarray):
    pixels = np.ascontiguousarray(photo[100 : 100 + size[0], 150 : 150 + size[1]])
    difference = np.abs(ours(pixels, quality)[0] - decoded(accurately_encoded(pixels, quality)))
    lost = np.abs(pixels - decoded(accurately_encoded(pixels, quality))).mean()
    assert difference.mean() < 0.3 and difference.mean() < lost / 2
    assert (difference <= 1).mean() > 0.93  # elsewhere a coefficient near a half was rounded the other way


@pytest.mark.parametrize("quality", QUALITIES)
def test_a_compressed_grey_photo_is_libjpegs_to_a_tenth_of_a_level(quality: int, photo: np.ndarray):
    pixels = np.ascontiguousarray(photo[50:150, 200:333, :1])
    difference = np.abs(ours(pixels, quality)[0] - decoded(accurately_encoded(pixels, quality)))
    assert difference.mean() < 0.12 and (difference <= 1).mean() > 0.98


def test_the_best_quality_is_simplejpegs_too_and_others_within_what_its_fast_transform_loses(photo: np.ndarray):
    pixels = np.ascontiguousarray(photo[100:196, 150:246])
    for quality, mean in ((100, 0.3), (96, 0.3), (75, 1.0), (30, 0.7)):
        content = simplejpeg.encode_jpeg(pixels, quality, "RGB", "420", fastdct=False)
        assert np.abs(ours(pixels, quality)[0] - decoded(content)).mean() < mean


def test_each_image_is_compressed_at_its_own_quality(photo: np.ndarray):
    pixels = np.ascontiguousarray(photo[100:148, 150:198])
    together = ours(pixels, 20, 60, 90)
    for quality, found in zip((20, 60, 90), together, strict=True):
        np.testing.assert_array_equal(found, ours(pixels, quality)[0])
    losses = [np.abs(found - pixels).mean() for found in together]
    assert losses == sorted(losses, reverse=True) and losses[0] > 2 * losses[-1]


def test_a_small_image_on_a_large_canvas_is_compressed_as_if_alone(photo: np.ndarray):
    pixels = np.ascontiguousarray(photo[100:137, 150:179])
    alone = Canvas.of(torch.from_numpy(pixels).permute(2, 0, 1)[None])
    canvas = Canvas(torch.zeros(1, 3, 64, 64), torch.tensor([37]), torch.tensor([29]))
    room = torch.zeros(1, 3, 64, 64)
    room[..., :37, :29] = alone.values
    found = jpeg(canvas.filled_with(room), torch.tensor([40])).values[..., :37, :29]
    assert torch.equal(found, jpeg(alone, torch.tensor([40])).values)


def test_qualities_are_drawn_for_each_image_from_their_range(photo: np.ndarray):
    pixels = torch.from_numpy(photo[100:148, 150:198].copy()).permute(2, 0, 1).expand(24, -1, -1, -1)
    canvas = Canvas.of(pixels)
    found = random_jpeg(canvas, Jpeg(quality=(10, 11)), 0, "test", torch.arange(24)).values
    possible = jpeg(canvas, torch.tensor([10, 11] * 12)).values[:2]
    which = [[torch.equal(one, other) for other in possible] for one in found]
    assert all(sum(one) == 1 for one in which) and 0 < sum(one[0] for one in which) < 24
