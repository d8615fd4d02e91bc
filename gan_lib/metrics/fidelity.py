"""PSNR and SSIM the way super-resolution papers report them: on luma, without the border. Images in, numbers out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.metrics import structural_similarity
from torch import Tensor

from gan_lib.augment import match_channels

# ITU-R BT.601 with "studio" swing: what MATLAB's rgb2ycbcr computes, and therefore what the published tables mean by Y.
_LUMA_WEIGHTS = (65.481 / 255, 128.553 / 255, 24.966 / 255)
_LUMA_OFFSET = 16.0

_SSIM = {"data_range": 255.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}

MOST_DECIBELS = 100.0
"""What equal images count as in a mean, which one flat image would otherwise make infinite."""


def luma(images: Tensor) -> Tensor:
    """Y of BT.601 in [16, 235], float64 (B, H, W) and not rounded, from levels of 0 to 255, (B, 1 or 3, H, W)."""
    weights = torch.tensor(_LUMA_WEIGHTS, dtype=torch.float64, device=images.device)
    return torch.einsum("bchw,c->bhw", match_channels(images, 3).double(), weights) + _LUMA_OFFSET


def luma_psnr(target: Tensor, prediction: Tensor, border: int) -> Tensor:
    """Peak signal-to-noise ratio in dB of each image's luma, float64 (B,); inf for equal images.

    Both are levels of 0 to 255, (B, 1 or 3, H, W); ``border`` pixels are cropped from each side. The protocol of Ledig
    et al., "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network" (2017), section 3.1,
    with a peak of 255.

    Raises:
        ValueError: the shapes differ, or nothing is left inside the border.
    """
    a, b = _inner_luma(target, prediction, border)
    return 10 * torch.log10(255.0**2 / (a - b).square().mean(dim=(1, 2)))


def psnr(target: NDArray[np.uint8], prediction: NDArray[np.uint8], border: int = 4) -> float:
    """:func:`luma_psnr` of one image, uint8 (H, W) or (H, W, 3).

    Raises:
        ValueError: the shapes differ, or nothing is left inside the border.
    """
    return float(luma_psnr(_as_batch(target), _as_batch(prediction), border))


def ssim(target: NDArray[np.uint8], prediction: NDArray[np.uint8], border: int = 4) -> float:
    """Structural similarity (at most 1) of the luma of one image, uint8 (H, W) or (H, W, 3), without its border.

    Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity" (2004): Gaussian weights of
    11 x 11 with sigma 1.5, K1 = 0.01, K2 = 0.03, L = 255.

    Raises:
        ValueError: the shapes differ, or fewer than 11 x 11 pixels are left inside the border.
    """
    a, b = (inner[0].numpy() for inner in _inner_luma(_as_batch(target), _as_batch(prediction), border))
    return float(structural_similarity(a, b, **_SSIM))


def psnr_rgb(target: NDArray[np.uint8], prediction: NDArray[np.uint8], border: int = 0) -> float:
    """Peak signal-to-noise ratio in dB over all channels of one image, uint8 (H, W, 3); inf for equal images.

    Raises:
        ValueError: the shapes differ, or nothing is left inside the border.
    """
    a, b = _inner(target, prediction, border)
    error = float(np.square(a - b).mean())
    return float(10 * np.log10(255.0**2 / error)) if error else float("inf")


def ssim_rgb(target: NDArray[np.uint8], prediction: NDArray[np.uint8], border: int = 0) -> float:
    """The mean of :func:`ssim` over the channels of one image, uint8 (H, W, 3).

    Raises:
        ValueError: the shapes differ, or fewer than 11 x 11 pixels are left inside the border.
    """
    a, b = _inner(target, prediction, border)
    return float(structural_similarity(a, b, channel_axis=2, **_SSIM))


def _inner(
    target: NDArray[np.uint8], prediction: NDArray[np.uint8], border: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    _require_comparable(target.shape, prediction.shape, target.shape[:2], border)
    inside = slice(border, -border or None)
    return target[inside, inside].astype(np.float64), prediction[inside, inside].astype(np.float64)


def _require_comparable(target: Sequence[int], prediction: Sequence[int], sides: Sequence[int], border: int) -> None:
    if tuple(target) != tuple(prediction):
        raise ValueError(f"cannot compare a prediction of {tuple(prediction)} with a target of {tuple(target)}")
    if min(sides) <= 2 * border:
        raise ValueError(f"an image of {tuple(sides)} has nothing inside a border of {border}")


def _inner_luma(target: Tensor, prediction: Tensor, border: int) -> tuple[Tensor, Tensor]:
    _require_comparable(target.shape, prediction.shape, target.shape[-2:], border)
    inside = slice(border, -border or None)
    return luma(target)[:, inside, inside], luma(prediction)[:, inside, inside]


def _as_batch(image: NDArray[np.uint8]) -> Tensor:
    """(H, W[, 3]) -> (1, 1 or 3, H, W)."""
    pixels = torch.from_numpy(np.array(image))  # a copy, which torch may write to
    return (pixels if pixels.ndim == 3 else pixels.unsqueeze(-1)).permute(2, 0, 1).unsqueeze(0)
