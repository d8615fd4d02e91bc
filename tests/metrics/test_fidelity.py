"""PSNR and SSIM against their closed forms and against published bicubic figures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import structural_similarity

from gan_lib.metrics.fidelity import luma, luma_ms_ssim, luma_psnr, psnr, psnr_rgb, ssim, ssim_rgb

rng = np.random.default_rng(0)
noise = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)


def test_luma_of_black_and_white_are_the_ends_of_the_studio_range():
    ends = torch.tensor([0, 255], dtype=torch.uint8).expand(1, 3, 1, 2)
    assert luma(ends).tolist() == [[pytest.approx([16.0, 235.0])]]
    assert torch.equal(luma(ends[:, :1]), luma(ends))  # grey is as RGB of three equal channels


def test_psnr_of_a_constant_difference_has_its_closed_form():
    grey = np.full((20, 20, 3), 100, dtype=np.uint8)
    # ten levels of grey are 10 * 219 / 255 levels of luma
    expected = 20 * math.log10(255 / (10 * 219 / 255))
    assert psnr(grey, grey + np.uint8(10)) == pytest.approx(expected)


def test_psnr_of_equal_images_is_infinite_and_ssim_is_one():
    assert psnr(noise, noise) == math.inf
    assert ssim(noise, noise) == pytest.approx(1.0)


def test_each_image_of_a_batch_has_its_own_psnr():
    targets = torch.from_numpy(noise).permute(2, 0, 1).expand(3, -1, -1, -1)
    predictions = torch.stack([(targets[0].int() + step).clamp(0, 255).to(torch.uint8) for step in (0, 1, 9)])
    found = luma_psnr(targets, predictions, border=4)
    assert found.dtype == torch.float64 and found[0] == math.inf
    expected = [psnr(noise, prediction.permute(1, 2, 0).numpy()) for prediction in predictions]
    assert found.tolist() == expected


def test_a_prediction_need_not_be_of_whole_levels():
    grey = torch.full((1, 1, 20, 20), 100.0)
    assert luma_psnr(grey, grey + 0.5, border=4).item() == pytest.approx(20 * math.log10(255 / (0.5 * 219 / 255)))


def test_what_lies_in_the_border_does_not_count():
    framed = noise.copy()
    framed[:4], framed[-4:], framed[:, :4], framed[:, -4:] = 0, 255, 0, 255
    assert psnr(noise, framed, border=4) == math.inf
    assert psnr(noise, framed, border=3) < 40


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="cannot compare"):
        psnr(noise, noise[:-1])
    with pytest.raises(ValueError, match="nothing inside"):
        psnr(noise[:8], noise[:8])


def test_bicubic_on_set5_matches_the_published_figure(shared_data):
    """Papers give 28.42 dB with MATLAB's bicubic; Pillow's kernel has the same support and a = -0.5."""
    values = []
    for path in sorted((shared_data / "Set5").glob("*.png")):
        target = Image.open(path).convert("RGB")
        target = target.crop((0, 0, target.width // 4 * 4, target.height // 4 * 4))
        low = target.resize((target.width // 4, target.height // 4), Image.Resampling.BICUBIC)
        again = low.resize(target.size, Image.Resampling.BICUBIC)
        values.append(psnr(np.asarray(target), np.asarray(again)))
    assert np.mean(values) == pytest.approx(28.42, abs=0.25)


def test_psnr_over_rgb_counts_every_channel_alike():
    grey = np.full((20, 20, 3), 100, dtype=np.uint8)
    bluer = grey + np.array([0, 0, 10], dtype=np.uint8)
    assert psnr_rgb(grey, bluer) == pytest.approx(20 * math.log10(255 / 10) + 10 * math.log10(3))
    assert psnr_rgb(grey, bluer) == psnr_rgb(grey, bluer[..., ::-1])
    assert psnr_rgb(noise, noise) == math.inf
    framed = noise.copy()
    framed[0], framed[:, -1] = 0, 0
    assert psnr_rgb(noise, framed, border=1) == math.inf


def test_ssim_over_rgb_is_the_mean_of_the_channels():
    other = rng.integers(0, 256, noise.shape, dtype=np.uint8)
    one_channel_right = np.dstack([noise[..., 0], other[..., 1:]])
    only_other = [
        ssim_rgb(np.repeat(noise[..., c : c + 1], 3, 2), np.repeat(other[..., c : c + 1], 3, 2)) for c in (1, 2)
    ]
    assert ssim_rgb(noise, one_channel_right) == pytest.approx((1 + sum(only_other)) / 3)


def test_ms_ssim_is_the_product_of_what_scikit_image_gives_at_each_scale(photos):
    target = np.asarray(Image.open(photos / "chelsea.png").convert("RGB"))
    prediction = np.clip(target + rng.normal(0, 20, target.shape), 0, 255).round()
    a, b = (luma(torch.tensor(x).permute(2, 0, 1).unsqueeze(0))[0].numpy() for x in (target, prediction))
    expected = 1.0
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        # a huge K1 makes the factor of luminance 1, so that contrast and structure are left
        k1 = 0.01 if scale == 4 else 1e6
        settings = {"data_range": 255.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
        expected *= structural_similarity(a, b, K1=k1, **settings) ** weight
        a, b = (x[: len(x) // 2 * 2, : x.shape[1] // 2 * 2] for x in (a, b))
        a, b = (x.reshape(len(x) // 2, 2, x.shape[1] // 2, 2).mean(axis=(1, 3)) for x in (a, b))
    batch = [torch.tensor(x).permute(2, 0, 1).unsqueeze(0) for x in (target, prediction)]
    assert luma_ms_ssim(*batch).item() == pytest.approx(expected, abs=1e-6)
    assert expected < 0.99


def test_ms_ssim_of_equal_images_is_one_and_small_images_are_refused():
    image = torch.randint(0, 256, (2, 3, 180, 176))
    assert luma_ms_ssim(image, image).tolist() == pytest.approx([1, 1])
    with pytest.raises(ValueError, match="176 pixels"):
        luma_ms_ssim(image, image, border=1)
