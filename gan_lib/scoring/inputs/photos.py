"""How a photo goes into a net, and what of it comes back beside the net's result.

A net sees grey or RGB. What a photo is beyond that takes its own way around the net:

* **Alpha.** The colours go through the net as they are, not multiplied by alpha. Colours that nobody sees are replaced
  by the nearest that can be seen, or else the net would carry them into the edges as a halo. Alpha itself is enlarged
  by cubic interpolation (:func:`gan_lib.scoring.tiling.alpha.enlarge_alpha`), not by the net: nets from one domain to
  another would translate it, others would draw texture where it is flat, and it would cost as much again as the
  colours. So an opaque photo gives the very result that it gives without alpha, and stays opaque. The price is that
  an outline gets softer than the net would draw it.
* **16 bits** are computed in float32 and stay 16 bits.
* **Grey** is repeated in three channels. Of an enlarger's result the luma is kept; a net that keeps the size may well
  be there to bring colour into grey, so its result stays RGB.
* **The ICC profile** goes with the numbers, of which none is converted, where result and photo are both grey or both
  RGB. Else the photo is brought to sRGB first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gan_lib.core.images import Limits, Metadata, PixelFormat, decode, decode_photo, in_format, in_srgb
from gan_lib.export.description import Description
from gan_lib.export.ports import Image

_NO_METADATA = Metadata()
_BAND, _FAR = 1024, 256  # rows: memory is taken for so many at a time, and not for those of a large photo


@dataclass(frozen=True)
class Kept:
    """What a net does not see of a photo, and what its result gets back."""

    alpha: NDArray | None = None
    """(height, width, 1) of the photo's type, as large as what the net sees."""
    grey: bool = False
    """Whether of the net's three channels the luma is kept."""
    metadata: Metadata = _NO_METADATA


NOTHING_KEPT = Kept()
"""All that it is, the net sees."""


@dataclass(frozen=True)
class Seen:
    """What a net sees of a photo, and what it does not."""

    pixels: NDArray
    """(height, width, channels of the net), uint8 or uint16."""
    kept: Kept = NOTHING_KEPT


PhotoReader = Callable[[bytes, Limits, Description], Seen]
"""Decodes a file for a model's image. Raises :class:`gan_lib.core.images.ImageRejected`."""


def keep_photo(content: bytes, limits: Limits, model: Description) -> Seen:
    """Keep what the photo is, as this module says."""
    photo = decode_photo(content, limits)
    net, result = model.inputs[str(model.image_input)], model.outputs[str(model.image_output)]
    assert isinstance(net, Image) and isinstance(result, Image)
    is_grey = photo.pixels.shape[2] == 1
    enlarges = model.tiling is not None and model.tiling.scale > 1
    grey = is_grey and result.channels == 3 and enlarges
    if photo.pixels.shape[2] != (1 if grey else result.channels) or (not is_grey and net.channels == 1):
        photo = in_srgb(photo)
    pixels = photo.pixels if photo.alpha is None else show_hidden(photo.pixels, photo.alpha)
    seen = in_format(pixels, PixelFormat(net.channels, 8 * pixels.dtype.itemsize))
    return Seen(seen, Kept(photo.alpha, grey, photo.metadata))


def as_plain(content: bytes, limits: Limits, model: Description) -> Seen:
    """8 bits in sRGB, over white, and nothing else: what can be compared with other such images."""
    net = model.inputs[str(model.image_input)]
    assert isinstance(net, Image)
    return Seen(decode(content, limits, PixelFormat(net.channels)))


def show_hidden(pixels: NDArray, alpha: NDArray) -> NDArray:
    """(height, width, channels), with the nearest visible pixel in place of each whose alpha is 0.

    It is looked for up to :data:`_FAR` rows away: no net sees farther.
    """
    if alpha.all():
        return pixels
    filled = pixels.copy()
    for top in range(0, len(pixels), _BAND):
        first = max(top - _FAR, 0)
        near = slice(first, top + _BAND + _FAR)
        hidden = alpha[near, :, 0] == 0
        visible = np.flatnonzero(~hidden)
        band = slice(top - first, top - first + _BAND)  # within what is near
        if len(visible) and hidden[band].any():
            # A label is 1 and the place in ``visible``: OpenCV counts what is 0 row by row.
            _, nearest = cv2.distanceTransformWithLabels(
                hidden.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
            )
            sources = visible[nearest[band][hidden[band]] - 1]
            filled[top : top + _BAND][hidden[band]] = pixels[near].reshape(-1, pixels.shape[2])[sources]
    return filled
