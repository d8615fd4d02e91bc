"""What recipes of images ask the dataset before they build their nets: sizes and channels."""

from __future__ import annotations

from gan_lib.core.errors import UserError
from gan_lib.dataset.info import DatasetInfo

_IMAGE_KINDS = ("png", "jpeg", "other_image")


def image_shape(data: DatasetInfo, field: str) -> tuple[int, int, int]:
    """(height, width, channels) of the images in ``field``.

    Raises:
        UserError: there is no such field, or it holds no 8-bit images of one size that are grey or RGB.
    """
    info = data[field]
    channels = info.shape[2] if len(info.shape) == 3 else 1
    if info.kind not in _IMAGE_KINDS or info.dtype != "uint8" or channels not in (1, 3):
        raise UserError(
            f"The dataset's field {field} holds {info.dtype} of shape {info.shape} as {info.kind}, and this recipe "
            "learns from grey or RGB images of 8 bits: name another field under recipe, or publish such images."
        )
    height, width = info.shape[:2]
    if height is None or width is None:
        raise UserError(
            f"The images in the dataset's field {field} differ in size, and form no batch: publish them cut or resized "
            "to one size."
        )
    return height, width, channels


def image_channels(data: DatasetInfo, field: str, configured: int | None) -> int:
    """Channels in which the images of ``field`` are shown: as many as they have, or ``configured``.

    Raises:
        UserError: see :func:`image_shape`; or colour would be lost.
    """
    _, _, found = image_shape(data, field)
    if configured is not None and found not in (1, configured):
        raise UserError(f"The dataset's images have {found} channels: set recipe.channels to {found}, or leave it out.")
    return configured or found
