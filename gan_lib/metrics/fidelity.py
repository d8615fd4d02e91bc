"""PSNR, SSIM and MS-SSIM the way papers report them: on luma (or RGB), without the border. Images in, numbers out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from skimage.metrics import structural_similarity
from torch import Tensor

from gan_lib.augment import match_channels

# ITU-R BT.601 with "studio" swing: what MATLAB's rgb2ycbcr computes, and therefore what the published tables mean by Y.
_LUMA_WEIGHTS = (65.481 / 255, 128.553 / 255, 24.966 / 255)
_LUMA_OFFSET = 16.0

_SSIM = {"data_range": 255.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}

# Weight of each scale, finest first: Wang et al. (2003), section 3.2.
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_GAUSSIAN_SIDE = 11

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


def luma_ms_ssim(target: Tensor, prediction: Tensor, border: int = 0) -> Tensor:
    """Multi-scale structural similarity of each image's luma, float64 (B,); at most 1.

    Both are levels of 0 to 255, (B, 1 or 3, H, W). Wang, Simoncelli and Bovik, "Multi-scale structural similarity for
    image quality assessment" (2003): contrast and structure at five scales, each the 2 x 2 mean of the one before, and
    luminance at the coarsest. A scale where the structures are opposed counts as 0.

    Raises:
        ValueError: the shapes differ, or fewer than 176 pixels a side are left inside the border.
    """
    a, b = (inner.unsqueeze(1) for inner in _inner_luma(target, prediction, border))
    least = _GAUSSIAN_SIDE * 2 ** (len(_SCALE_WEIGHTS) - 1)
    if min(a.shape[-2:]) < least:
        raise ValueError(f"MS-SSIM needs {least} pixels a side, and {tuple(a.shape[-2:])} are left inside the border")
    result = torch.ones(a.shape[0], dtype=torch.float64, device=a.device)
    for scale, weight in enumerate(_SCALE_WEIGHTS):
        if scale:
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        luminance, contrast = _similarity_maps(a, b)
        similarity = luminance * contrast if scale == len(_SCALE_WEIGHTS) - 1 else contrast
        result *= similarity.mean(dim=(1, 2, 3)).clamp(min=0) ** weight
    return result


def _similarity_maps(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """SSIM's two factors, luminance and contrast with structure, where the Gaussian lies wholly inside the image."""
    offsets = torch.arange(_GAUSSIAN_SIDE, dtype=a.dtype, device=a.device) - _GAUSSIAN_SIDE // 2
    gaussian = torch.exp(-0.5 * (offsets / 1.5) ** 2)
    gaussian = gaussian / gaussian.sum()

    def blurred(x: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(x, gaussian.view(1, 1, -1, 1)), gaussian.view(1, 1, 1, -1))

    mean_a, mean_b = blurred(a), blurred(b)
    variance_a, variance_b = blurred(a * a) - mean_a**2, blurred(b * b) - mean_b**2
    covariance = blurred(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return luminance, (2 * covariance + c2) / (variance_a + variance_b + c2)


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
