"""A prediction compared with its target: figures, and the crop of it that is shown."""

from __future__ import annotations

import numpy as np

from gan_lib.core.images import Pixels, encode_png
from gan_lib.evaluation.comparison_grid import fit_cell
from gan_lib.evaluation.measured import Measured
from gan_lib.evaluation.measuring.pairs import PairMeasures

Where = tuple[slice, slice]


def compare(
    name: str, method: str, target: Pixels, prediction: Pixels, measures: PairMeasures, where: Where | None
) -> Measured:
    """Measure a prediction; with ``where`` its crop goes into the comparison grid.

    Raises:
        ImageRejected: ``other-size``: it is not as large as the target.
    """
    return Measured(name, method, measures.compare(target, prediction), crop=crop_of(prediction, where))


def crop_of(image: Pixels, where: Where | None) -> bytes | None:
    """PNG of the part ``where`` of an RGB image; None where nothing is to be shown."""
    return None if where is None else encode_png(np.ascontiguousarray(image[where]))


def whole_in_cell(image: Pixels) -> bytes:
    """PNG of a whole RGB image, no larger than a cell of the comparison grid."""
    return encode_png(np.ascontiguousarray(fit_cell(image)))
