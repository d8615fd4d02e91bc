"""Each image of a canvas is resized as torch resizes it alone."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gan_lib.degradations.canvas import Canvas
from gan_lib.degradations.resize import AREA, BICUBIC, BILINEAR, random_resize, resize, resize_to
from gan_lib.degradations.settings import Resize

METHODS = {AREA: {"mode": "area"}, BILINEAR: {"mode": "bilinear"}, BICUBIC: {"mode": "bicubic"}}


def images(count: int, height: int, width: int) -> Tensor:
    return 255 * torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [(10, 13), (17, 17), (33, 25), (5, 40), (1, 1)])
def test_a_resized_image_is_torchs(method: int, size: tuple[int, int]):
    whole = images(2, 17, 21)
    methods = torch.full((2,), method)
    found = resize(Canvas.of(whole), *(torch.full((2,), side) for side in size), methods, (48, 48))
    expected = F.interpolate(whole, size=size, **METHODS[method])
    torch.testing.assert_close(found.values[..., : size[0], : size[1]], expected, rtol=0, atol=1e-2)
    below = found.values[..., size[0] :, :1]
    assert torch.equal(below, found.values[..., size[0] - 1 : size[0], :1].expand_as(below))


def test_each_image_of_a_canvas_is_resized_from_its_own_size_to_its_own():
    canvas = Canvas.of(images(3, 32, 32))
    first = resize(canvas, torch.tensor([20, 32, 9]), torch.tensor([31, 7, 15]), torch.tensor([0, 1, 2]), (40, 40))
    second = resize(first, torch.tensor([8, 8, 30]), torch.tensor([8, 12, 8]), torch.tensor([2, 0, 1]), (30, 16))
    for n, (once, again) in enumerate([((20, 31), (8, 8)), ((32, 7), (8, 12)), ((9, 15), (30, 8))]):
        alone = F.interpolate(canvas.values[n : n + 1], size=once, **METHODS[n])
        alone = F.interpolate(alone, size=again, **METHODS[(2, 0, 1)[n]])
        torch.testing.assert_close(second.values[n : n + 1, :, : again[0], : again[1]], alone, rtol=0, atol=2e-2)


def test_factors_come_from_their_range_and_as_often_as_configured():
    settings = Resize(up=0.2, down=0.7, keep=0.1, range=(0.25, 1.5))
    drawn = random_resize(Canvas.of(torch.zeros(800, 1, 40, 20)), settings, (40, 20), 0, "test", torch.arange(800))
    assert drawn.values.shape[-2:] == (60, 30)
    heights = drawn.heights.float()
    assert heights.min() >= 10 and heights.max() <= 60
    assert (drawn.widths - drawn.heights / 2).abs().max() <= 0.5  # one factor for both sides
    assert (heights > 40).float().mean().item() == pytest.approx(0.2, abs=0.06)
    assert (heights < 40).float().mean().item() == pytest.approx(0.7, abs=0.06)


def test_all_images_reach_the_size_that_is_asked_for():
    found = resize_to(Canvas.of(images(5, 20, 12)), (10, 6), 0, "test", torch.arange(5))
    assert found.values.shape == (5, 3, 10, 6)
    assert found.heights.tolist() == [10] * 5 and found.widths.tolist() == [6] * 5
