"""What a model was given, as people see it in the comparison grid: an image as it is, a label map in colours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gan_lib.core.images import Limits, Pixels, decode, decode_label_map
from gan_lib.evaluation.comparison import Where, crop_of, whole_in_cell
from gan_lib.export.artifact import Artifact
from gan_lib.export.ports import LabelMap

# Far apart for the first classes, which are the ones that most maps have.
_PALETTE = np.random.default_rng(0).permutation(
    np.stack(np.meshgrid(*[np.arange(32, 256, 37, dtype=np.uint8)] * 3), axis=-1).reshape(-1, 3)
)


def show_input(content: bytes, artifact: Artifact, limits: Limits, where: Where, size: Sequence[int]) -> bytes:
    """PNG of the part ``where`` of an input, or of all of it where it is not of the target's ``size``.

    Raises:
        ImageRejected: it cannot be decoded.
    """
    image = _visible(content, artifact, limits)
    crop = crop_of(image, where) if image.shape[:2] == tuple(size[:2]) else None
    return whole_in_cell(image) if crop is None else crop


def show_whole_input(content: bytes, artifact: Artifact, limits: Limits) -> bytes:
    """PNG of all of an input, no larger than a cell of the comparison grid.

    Raises:
        ImageRejected: it cannot be decoded.
    """
    return whole_in_cell(_visible(content, artifact, limits))


def _visible(content: bytes, artifact: Artifact, limits: Limits) -> Pixels:
    if isinstance(artifact.inputs[str(artifact.image_input)], LabelMap):
        return coloured(decode_label_map(content, limits))
    return decode(content, limits)


def coloured(label_map: np.ndarray) -> Pixels:
    """(H, W) classes -> (H, W, 3), a colour for each class; those that are hundreds apart may share one."""
    return _PALETTE[label_map % len(_PALETTE)]
