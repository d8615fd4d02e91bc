"""The whole way from a photo to its low resolution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import data
from torch import Tensor

from gan_lib.core import config
from gan_lib.core.config import ConfigError
from gan_lib.degradations.degrade import degrade, sharpen
from gan_lib.degradations.settings import Blur, Degradations, SecondBlur


@pytest.fixture(scope="module")
def photos() -> Tensor:
    photo = data.astronaut()
    cuts = [photo[10 * n : 10 * n + 64, 100:164] for n in range(12)]
    return torch.from_numpy(np.stack(cuts)).permute(0, 3, 1, 2)


POSITION = torch.arange(12) * 5 + 2
NOTHING = {
    "first": {
        "blur": {"probability": 0},
        "resize": {"up": 0, "down": 0, "keep": 1},
        "noise": {"gaussian": 1, "sigma": (1e-6, 1e-6)},
        "jpeg": {"quality": (100, 100)},
    },
    "second": {
        "blur": {"probability": 0},
        "resize": {"up": 0, "down": 0, "keep": 1},
        "noise": {"gaussian": 1, "sigma": (1e-6, 1e-6)},
        "jpeg": {"quality": (100, 100)},
    },
    "final_sinc": 0,
}


def test_a_sample_is_degraded_alike_in_whatever_batch_and_on_however_many_ranks(photos: Tensor):
    whole = degrade(photos, 4, Degradations(), 7, POSITION)
    assert whole.shape == (12, 3, 16, 16) and whole.dtype == torch.uint8
    for ranks in (2, 3, 12):
        for rank in range(ranks):
            own = slice(rank, None, ranks)
            assert torch.equal(degrade(photos[own], 4, Degradations(), 7, POSITION[own]), whole[own])
    assert torch.equal(degrade(photos, 4, Degradations(), 7, POSITION), whole)


def test_each_sample_is_degraded_in_its_own_way_and_otherwise_with_another_seed(photos: Tensor):
    same = photos[:1].expand(12, -1, -1, -1)
    results = degrade(same, 4, Degradations(), 7, POSITION)
    assert len(torch.unique(results, dim=0)) == 12
    assert not torch.equal(degrade(same, 4, Degradations(), 8, POSITION)[0], results[0])


def test_what_is_degraded_is_still_the_same_photo(photos: Tensor):
    """Over many draws noise and ringing cancel, and what remains is a blurred photo of the same light."""
    same = photos[3:4].expand(60, -1, -1, -1)
    mean = degrade(same, 4, Degradations(), 0, torch.arange(60)).float().mean(dim=0)
    expected = torch.nn.functional.avg_pool2d(photos[3:4].float(), 4)[0]
    assert (mean - expected).abs().mean() < 12
    assert torch.corrcoef(torch.stack([mean.flatten(), expected.flatten()]))[0, 1] > 0.97


def test_with_every_strength_at_nothing_only_the_shrinking_is_left(photos: Tensor):
    settings = config.validate(Degradations, NOTHING, source="test")
    found = degrade(photos, 1, settings, 0, POSITION).float()
    assert (found - photos.float()).abs().mean() < 2.5  # chroma at half resolution, twice


def test_grey_images_and_those_that_are_not_square_are_degraded(photos: Tensor):
    assert degrade(photos[:2, :1, :40, :60], 2, Degradations(), 0, POSITION[:2]).shape == (2, 1, 20, 30)


def test_a_side_that_is_no_multiple_is_refused(photos: Tensor):
    with pytest.raises(ValueError, match="63x64"):
        degrade(photos[..., :63, :], 4, Degradations(), 0, POSITION)


def test_a_key_of_the_second_round_leaves_the_others_of_that_round():
    settings = config.validate(Degradations, {"second": {"blur": {"sinc": 0.5}}}, source="test")
    assert settings.second.blur.sigma == SecondBlur().sigma != Blur().sigma
    assert settings.second.blur.probability == 0.8


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"first": {"blur": {"sizes": (8, 20)}}}, "odd sizes"),
        ({"first": {"noise": {"sigma": (5, 1)}}}, "lower to its upper end"),
        ({"first": {"resize": {"range": (1.2, 1.5)}}}, r"first\.resize\.range"),
        ({"second": {"jpeg": {"quality": (0, 90)}}}, r"second\.jpeg\.quality"),
        ({"third": {}}, "unknown key third"),
    ],
)
def test_strengths_that_cannot_be_are_refused(values: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        config.validate(Degradations, values, source="test")


def test_sharpening_adds_to_edges_and_leaves_flat_parts_and_little_differences(photos: Tensor):
    flat = torch.full((1, 3, 64, 64), 90.0)
    torch.testing.assert_close(sharpen(flat, 0.5), flat)
    faint = flat + torch.randn(flat.shape, generator=torch.manual_seed(0)).clamp(-3, 3)
    torch.testing.assert_close(sharpen(faint, 0.5), faint, rtol=0, atol=1e-3)
    edge = torch.full((1, 1, 96, 96), 60.0)
    edge[..., 48:] = 180
    sharp = sharpen(edge, 0.5)[0, 0, 48]
    assert sharp[48] > 190 and sharp[47] < 50
    assert sharp[0].item() == pytest.approx(60, abs=1) and sharp[95].item() == pytest.approx(180, abs=1)
    photo = photos.float()
    assert torch.equal(sharpen(photo, 0.0), photo)
    assert sharpen(photo, 0.5).diff(dim=-1).abs().mean() > 1.1 * photo.diff(dim=-1).abs().mean()
