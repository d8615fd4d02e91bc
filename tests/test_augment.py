"""Augmentation against closed forms: each result is a known rearrangement, chosen by seed and position alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from torch import Tensor

from gan_lib import augment

RANDOM = {
    "hflip": lambda images, seed, position: augment.random_hflip(images, seed, position),
    "rot90": lambda images, seed, position: augment.random_rot90(images, seed, position),
    "crop": lambda images, seed, position: augment.random_crop(images, 5, seed, position),
}


def numbered(count: int, side: int = 8) -> Tensor:
    """(count, 2, side, side): each pixel holds its row and its column, and so tells where it was moved from."""
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return torch.stack([row, column]).to(torch.uint8).expand(count, -1, -1, -1).contiguous()


def photos(count: int, side: int) -> list[np.ndarray]:
    """Different square cuts of a photo, uint8 RGB."""
    photo = data.astronaut()
    corners = np.random.default_rng(0).integers(0, 512 - side, (count, 2))
    return [np.ascontiguousarray(photo[y : y + side, x : x + side]) for y, x in corners]


def positions(count: int) -> Tensor:
    return torch.arange(count) * 7 + 3


@pytest.mark.parametrize("change", RANDOM.values(), ids=RANDOM)
def test_a_sample_is_changed_alike_in_whatever_batch_it_comes(change: Callable[[Tensor, int, Tensor], Tensor]):
    images = torch.randint(0, 256, (64, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    whole = change(images, 5, positions(64))
    mixed = torch.randperm(64, generator=torch.Generator().manual_seed(1))
    assert torch.equal(change(images[mixed], 5, positions(64)[mixed]), whole[mixed])
    assert torch.equal(torch.cat([change(images[n::4], 5, positions(64)[n::4]) for n in range(4)])[0], whole[0])
    channels_last = images.to(memory_format=torch.channels_last)
    assert torch.equal(change(channels_last, 5, positions(64)), whole)


@pytest.mark.parametrize("change", RANDOM.values(), ids=RANDOM)
def test_another_seed_changes_other_samples(change: Callable[[Tensor, int, Tensor], Tensor]):
    images = numbered(64)
    assert not torch.equal(change(images, 5, positions(64)), change(images, 6, positions(64)))


@pytest.mark.parametrize("change", RANDOM.values(), ids=RANDOM)
def test_the_input_stays_as_it_was(change: Callable[[Tensor, int, Tensor], Tensor]):
    images = numbered(16)
    change(images, 5, positions(16))
    assert torch.equal(images, numbered(16))


def test_half_of_the_images_are_flipped_and_the_others_untouched():
    images = numbered(20_000)
    flipped = augment.random_hflip(images, 1, positions(20_000))
    mirrored = (flipped == images.flip(-1)).flatten(1).all(1)
    untouched = (flipped == images).flatten(1).all(1)
    assert (mirrored ^ untouched).all()
    assert abs(mirrored.float().mean().item() - 0.5) < 4 * 0.5 / 20_000**0.5  # four standard deviations


def test_each_of_the_four_rotations_comes_equally_often_and_no_other():
    images = numbered(20_000)
    rotated = augment.random_rot90(images, 1, positions(20_000))
    quarters = [(rotated == torch.rot90(images, -number, (-2, -1))).flatten(1).all(1) for number in range(4)]
    assert (torch.stack(quarters).sum(0) == 1).all()
    expected = (0.25 * 0.75 / 20_000) ** 0.5
    assert all(abs(chosen.float().mean().item() - 0.25) < 4 * expected for chosen in quarters)


def test_images_that_are_not_square_are_not_rotated():
    with pytest.raises(ValueError, match="square"):
        augment.random_rot90(torch.zeros(1, 3, 4, 6), 0, torch.zeros(1, dtype=torch.int64))


@pytest.mark.parametrize("stride", [1, 2])
def test_every_corner_of_a_crop_comes_equally_often_and_it_is_cut_unchanged(stride: int):
    cut = augment.random_crop(numbered(20_000), 4, 1, positions(20_000), stride)
    corner = cut[:, :, :1, :1]
    assert torch.equal(cut, corner + numbered(20_000, 4))
    corners = corner.flatten(1).long()
    assert (corners % stride == 0).all()
    per_side = 4 // stride + 1
    counts = torch.bincount(corners[:, 0] // stride * per_side + corners[:, 1] // stride, minlength=per_side**2)
    assert len(counts) == per_side**2
    expected = 20_000 / per_side**2
    assert ((counts - expected) ** 2 / expected).sum() < 2.5 * per_side**2  # chi square, far out in its tail


@pytest.mark.parametrize("change", RANDOM.values(), ids=RANDOM)
def test_a_label_map_is_changed_as_its_image(change: Callable[[Tensor, int, Tensor], Tensor]):
    images = numbered(64)
    classes = images[:, 0].long() * 8 + images[:, 1]  # (B, H, W)
    image, label_map = change(images, 5, positions(64)), change(classes, 5, positions(64))
    assert label_map.dtype == torch.int64
    assert torch.equal(label_map, image[:, 0].long() * 8 + image[:, 1])


def test_a_crop_as_large_as_the_image_is_the_image_and_a_larger_one_is_refused():
    assert torch.equal(augment.random_crop(numbered(3), 8, 1, positions(3)), numbered(3))
    with pytest.raises(ValueError, match="9 pixels"):
        augment.random_crop(numbered(3), 9, 1, positions(3))


def test_flip_rotation_and_corner_of_one_sample_are_drawn_independently():
    images = numbered(20_000)
    crops = augment.random_crop(images, 7, 1, positions(20_000))[:, :, 0, 0]
    flipped = augment.random_hflip(images, 1, positions(20_000))[:, 1, 0, 0] != 0
    rotated = augment.random_rot90(images, 1, positions(20_000))[:, :, 0, 0] != 0
    drawn = torch.stack([crops[:, 0], crops[:, 1], flipped, rotated[:, 0], rotated[:, 1]])
    correlation = np.corrcoef(drawn.numpy())
    assert np.abs(correlation - np.eye(5)).max() < 4 / 20_000**0.5


def test_levels_become_floats_between_minus_one_and_one_and_come_back():
    levels = torch.arange(256).to(torch.uint8)
    values = augment.normalise(levels)
    assert values[0] == -1 and values[-1] == 1
    assert torch.equal(augment.to_levels(values), levels)
    assert augment.to_levels(torch.tensor([-1.5, 1.2])).tolist() == [0, 255]


def test_a_flat_image_stays_flat_in_every_size_and_an_image_of_the_size_is_not_touched():
    flat = torch.full((1, 3, 7, 9), 0.25)
    torch.testing.assert_close(augment.resize(flat, 16), torch.full((1, 3, 16, 16), 0.25))
    image = torch.rand(1, 3, 8, 8)
    assert augment.resize(image, 8) is image


def test_grey_images_are_shown_in_three_channels_and_no_channel_is_dropped():
    grey = torch.rand(2, 1, 4, 4)
    shown = augment.match_channels(grey, 3)
    assert shown.shape == (2, 3, 4, 4) and torch.equal(shown[:, 2:], grey)
    with pytest.raises(ValueError, match="3 channels cannot be shown in 1"):
        augment.match_channels(shown, 1)


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_downscaled_bytes_are_pillows(factor: int):
    images = np.stack([*photos(6, 48), *(np.random.default_rng(0).integers(0, 256, (2, 48, 48, 3), dtype=np.uint8))])
    small = augment.downscale(torch.from_numpy(images).permute(0, 3, 1, 2), factor).permute(0, 2, 3, 1).numpy()
    side = 48 // factor
    theirs = np.stack([np.asarray(Image.fromarray(p).resize((side, side), Image.Resampling.BICUBIC)) for p in images])
    assert small.dtype == np.uint8
    # Pillow's weights are rounded to 22 bits: next to a tie it may round the other way.
    difference = np.abs(small.astype(int) - theirs)
    assert difference.max() <= 1 and (difference > 0).mean() < 2e-3


@pytest.mark.parametrize("factor", [2, 4])
def test_downscaled_floats_are_pillows_without_its_rounding(factor: int):
    (image,) = photos(1, 48)
    grey = image[..., 1].astype(np.float32)
    theirs = np.asarray(Image.fromarray(grey).resize((48 // factor,) * 2, Image.Resampling.BICUBIC))
    ours = augment.downscale(torch.from_numpy(grey)[None, None], factor)[0, 0].numpy()
    assert np.abs(ours - theirs).max() < 1e-3


def test_a_side_that_is_no_multiple_is_refused():
    with pytest.raises(ValueError, match="10x12"):
        augment.downscale(torch.zeros(1, 3, 10, 12), 4)
