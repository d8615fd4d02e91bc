"""MATLAB's bicubic: the published figures of bicubic x4 follow from it, and from nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from gan_lib.metrics.fidelity import luma, luma_psnr, psnr_rgb, ssim, ssim_rgb
from gan_lib.metrics.resizing import as_levels, imresize


def test_bicubic_on_set5_has_the_published_psnr_and_ssim(shared_data):
    """28.42 dB and 0.8104 on Y, as published since Timofte et al. (2014): Y is made first, then shrunk and grown."""
    found = []
    for path in sorted((shared_data / "Set5").glob("*.png")):
        target = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)
        height, width = target.shape[1] // 4 * 4, target.shape[2] // 4 * 4
        target = target[:, :height, :width]
        bicubic = [
            as_levels(imresize(imresize(values, height // 4, width // 4), height, width))
            for values in (target, as_levels(luma(target.unsqueeze(0))[0]))
        ]
        rgb, y = bicubic[0].permute(1, 2, 0).numpy(), bicubic[1]
        y_target = as_levels(luma(target.unsqueeze(0))[0])
        pixels = target.permute(1, 2, 0).numpy()
        found.append([*on_y(y_target, y), psnr_rgb(pixels, rgb, 4), ssim_rgb(pixels, rgb, 4), ssim(pixels, rgb, 4)])
    psnr_y, ssim_y, rgb_psnr, rgb_ssim, ssim_of_rgb = np.mean(found, axis=0)
    assert psnr_y == pytest.approx(28.42, abs=0.05)
    assert ssim_y == pytest.approx(0.8104, abs=0.002)
    assert ssim_of_rgb == pytest.approx(0.8104, abs=0.002)  # shrinking RGB and reading Y afterwards is as good
    assert rgb_psnr == pytest.approx(26.70, abs=0.05)  # our own: 1.7 dB below Y
    assert rgb_ssim < ssim_y


def on_y(target: torch.Tensor, prediction: torch.Tensor) -> tuple[float, float]:
    """PSNR and SSIM between two Y, (H, W) uint8, without 4 pixels: grey images would have their luma taken again."""
    a, b = target[4:-4, 4:-4].double(), prediction[4:-4, 4:-4].double()
    # luma is linear in grey, with slope 219 / 255, so a grey image of these levels has these levels as its luma
    grey_a, grey_b = ((y - 16) * 255 / 219 for y in (a, b))
    psnr = luma_psnr(grey_a.expand(1, 3, -1, -1), grey_b.expand(1, 3, -1, -1), border=0).item()
    return psnr, ssim_of_levels(a.numpy(), b.numpy())


def ssim_of_levels(a: np.ndarray, b: np.ndarray) -> float:
    return ssim_rgb(np.dstack([a] * 3), np.dstack([b] * 3))


def test_a_constant_image_stays_what_it_is_at_any_size():
    flat = torch.full((3, 7, 9), 93.0)
    for size in ((7, 9), (3, 4), (28, 36), (1, 1)):
        assert imresize(flat, *size).sub(93).abs().max() < 1e-12


def test_the_same_size_changes_nothing():
    image = torch.rand(3, 8, 8, dtype=torch.float64)
    assert imresize(image, 8, 8).sub(image).abs().max() < 1e-12


def test_shrinking_by_two_weighs_eight_pixels_as_the_widened_kernel_does():
    impulses = torch.eye(16, dtype=torch.float64).unsqueeze(1)  # a line of 16 pixels, one of them lit
    weights = imresize(impulses, 1, 8)[:, 0, 4]
    x = np.array([0.25, 0.75, 1.25, 1.75])
    kernel = np.where(x <= 1, 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2)
    kernel = np.concatenate([kernel[::-1], kernel]) / (2 * kernel.sum())
    assert weights[5:13].numpy() == pytest.approx(kernel, abs=1e-12)
    assert weights.count_nonzero() == 8


def test_pillow_agrees_away_from_the_edges():
    image = np.random.default_rng(0).random((64, 64)).astype(np.float32)
    pillow = np.asarray(Image.fromarray(image).resize((16, 16), Image.Resampling.BICUBIC))
    ours = imresize(torch.from_numpy(image), 16, 16).numpy()
    assert ours[3:-3, 3:-3] == pytest.approx(pillow[3:-3, 3:-3], abs=1e-5)


def test_halves_are_rounded_up_and_levels_are_clipped():
    assert as_levels(torch.tensor([-3.0, 0.5, 1.5, 2.49, 254.5, 300.0])).tolist() == [0, 1, 2, 2, 255, 255]


def test_a_size_of_nothing_is_refused():
    with pytest.raises(ValueError, match="cannot be resized"):
        imresize(torch.rand(3, 3), 0, 3)
