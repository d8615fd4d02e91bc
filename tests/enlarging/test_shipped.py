"""The nets that the package brings are what their cards say."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from gan_lib.evaluation.tasks.super_resolution import shrink
from gan_lib.metrics.fidelity import psnr
from gan_lib.scoring.model_sources import find_model
from gan_lib.shipped import nets


@pytest.mark.parametrize("name", nets.names())
def test_a_net_is_as_large_and_as_good_as_its_card_says(name: str, shared_data: Path):
    card, artifact = nets.card_of(name), find_model(f"shipped:{name}").load()
    assert sum(values.numel() for values in artifact.net.parameters()) == card["parameters"] <= 500_000
    found = []
    for path in sorted((shared_data / "Set5").iterdir()):
        whole = np.array(PillowImage.open(path).convert("RGB"))
        height, width = (side // 4 * 4 for side in whole.shape[:2])
        target = np.ascontiguousarray(whole[:height, :width])
        low = torch.from_numpy(shrink(target, 4)).permute(2, 0, 1).unsqueeze(0)
        found.append(psnr(target, artifact.translate(low)[0].permute(1, 2, 0).numpy(), border=4))
    assert fmean(found) == pytest.approx(card["figures"]["Set5"]["net"]["psnr"], abs=0.02)


def test_the_pixel_net_reaches_31_decibels_on_set5():
    figures = nets.card_of("enlarger-pixels")["figures"]["Set5"]
    assert figures["net"]["psnr"] >= 31.0 > figures["bicubic"]["psnr"]


def test_the_gan_is_no_worse_than_bicubic_by_pixels():
    figures = nets.card_of("enlarger-gan")["figures"]["Set5"]
    assert figures["net"]["psnr"] >= figures["bicubic"]["psnr"]


def test_the_gan_draws_more_of_a_cats_fur_than_the_pixel_net_and_no_more_than_there_is(photos: Path):
    target = np.array(PillowImage.open(photos / "chelsea.png").convert("RGB"))[40:232, 20:212]
    low = torch.from_numpy(shrink(target, 4)).permute(2, 0, 1).unsqueeze(0)
    nets_by_name = {name: find_model(f"shipped:{name}").load() for name in ("enlarger-gan", "enlarger-pixels")}
    images = {name: net.translate(low)[0].permute(1, 2, 0).numpy() for name, net in nets_by_name.items()}
    gan, pixels = (detail(images[name]) / detail(target) for name in nets_by_name)
    assert 1.5 * pixels < gan < 1.1


def detail(image: np.ndarray) -> float:
    """The energy of the differences between neighbouring pixels."""
    grey = image.astype(float).mean(axis=2)
    return float(np.square(np.diff(grey, axis=0)).mean() + np.square(np.diff(grey, axis=1)).mean())


@pytest.mark.parametrize("name", nets.names())
def test_a_card_tells_how_its_net_was_made_and_nothing_of_the_machine(name: str):
    card = nets.card_of(name)
    assert card["licence"] == "Apache-2.0" and card["images_seen"] > 0 and card["data"]["sources"]
    assert card["settings"]["recipe.base_channels"] == "48"
    assert "/tmp" not in str(card) and "/work" not in str(card)
