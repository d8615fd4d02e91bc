"""A prediction compared with its target: figures, and the crop of it that is shown."""

from __future__ import annotations

import numpy as np

from gan_lib.core.images import ImageRejected, Pixels, encode_png
from gan_lib.evaluation.comparison_grid import fit_cell
from gan_lib.evaluation.measured import Measured
from gan_lib.metrics.fidelity import psnr, psnr_rgb, ssim, ssim_rgb

Where = tuple[slice, slice]

_SSIM_SIDE = 11  # pixels; what is smaller cannot be compared
_METRICS = {"psnr": psnr, "ssim": ssim, "psnr_rgb": psnr_rgb, "ssim_rgb": ssim_rgb}  # the first two: of luma


def require_comparable(target: Pixels, border: int) -> None:
    """Check that enough of the target is left inside the border.

    Raises:
        ImageRejected: ``too-small``.
    """
    if min(target.shape[:2]) < _SSIM_SIDE + 2 * border:
        raise ImageRejected("too-small", f"{target.shape[1]}x{target.shape[0]} leaves nothing to compare")


def compare(name: str, method: str, target: Pixels, prediction: Pixels, border: int, where: Where | None) -> Measured:
    """Measure a prediction; with ``where`` its crop goes into the comparison grid.

    Raises:
        ImageRejected: ``other-size``: it is not as large as the target.
    """
    if prediction.shape != target.shape:
        sizes = f"{prediction.shape[1]}x{prediction.shape[0]}, the target {target.shape[1]}x{target.shape[0]}"
        raise ImageRejected("other-size", f"the prediction is {sizes}")
    figures = {metric: measure(target, prediction, border) for metric, measure in _METRICS.items()}
    return Measured(name, method, figures, crop=crop_of(prediction, where))


def crop_of(image: Pixels, where: Where | None) -> bytes | None:
    """PNG of the part ``where`` of an RGB image; None where nothing is to be shown."""
    return None if where is None else encode_png(np.ascontiguousarray(image[where]))


def whole_in_cell(image: Pixels) -> bytes:
    """PNG of a whole RGB image, no larger than a cell of the comparison grid."""
    return encode_png(np.ascontiguousarray(fit_cell(image)))
