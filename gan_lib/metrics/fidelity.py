"""PSNR and SSIM the way super-resolution papers report them: on luma, without the border. Images in, numbers out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

# ITU-R BT.601 with "studio" swing: what MATLAB's rgb2ycbcr computes, and therefore what the published tables mean by Y.
_LUMA_WEIGHTS = np.array([65.481, 128.553, 24.966]) / 255
_LUMA_OFFSET = 16.0


def luma(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Y of BT.601 in [16, 235] from RGB uint8 (H, W, 3); not rounded."""
    return np.asarray(image.astype(np.float64) @ _LUMA_WEIGHTS + _LUMA_OFFSET)


def psnr(truth: NDArray[np.uint8], image: NDArray[np.uint8], border: int = 4) -> float:
    """Peak signal-to-noise ratio in dB of the luma, ``border`` pixels cropped from each side; inf for equal images.

    Both are RGB uint8 (H, W, 3). The protocol of Ledig et al., "Photo-Realistic Single Image Super-Resolution Using a
    Generative Adversarial Network" (2017), section 3.1, with a peak of 255.

    Raises:
        ValueError: the shapes differ, or nothing is left inside the border.
    """
    a, b = _inner_luma(truth, image, border)
    mean_square = float(np.mean((a - b) ** 2))
    return float("inf") if mean_square == 0 else 10 * float(np.log10(255.0**2 / mean_square))


def ssim(truth: NDArray[np.uint8], image: NDArray[np.uint8], border: int = 4) -> float:
    """Structural similarity (at most 1) of the luma, ``border`` pixels cropped from each side.

    Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity" (2004): Gaussian window of
    11 x 11 with sigma 1.5, K1 = 0.01, K2 = 0.03, L = 255.

    Raises:
        ValueError: the shapes differ, or fewer than 11 x 11 pixels are left inside the border.
    """
    a, b = _inner_luma(truth, image, border)
    return float(
        structural_similarity(a, b, data_range=255.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    )


def _inner_luma(
    truth: NDArray[np.uint8], image: NDArray[np.uint8], border: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if truth.shape != image.shape:
        raise ValueError(f"cannot compare an image of {image.shape} with a truth of {truth.shape}")
    if min(truth.shape[:2]) <= 2 * border:
        raise ValueError(f"an image of {truth.shape[:2]} has nothing inside a border of {border}")
    inside = slice(border, -border or None)
    return luma(truth)[inside, inside], luma(image)[inside, inside]
