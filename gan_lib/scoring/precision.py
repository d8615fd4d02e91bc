"""Whether an artifact may be served in bfloat16: only where its results stay as good as the same to the eye."""

from __future__ import annotations

import logging
from functools import lru_cache

import torch

from gan_lib.core.precision import Precision, dtype_of, limit_told
from gan_lib.export.artifact import Artifact
from gan_lib.export.examples import example
from gan_lib.export.ports import Image

logger = logging.getLogger(__name__)

MOST_LEVELS = 2.0
"""How far a value may be off, in levels of 255: no one sees it."""
MEAN_LEVELS = 0.25
"""How far values may be off on average: most of them are rounded to the same level."""
_EXAMPLE_SIDE = 64


def dtype_served(artifact: Artifact, precision: Precision, device: torch.device) -> torch.dtype:
    """The number format for ``artifact``, which gives an image and lies on ``device``, where ``precision`` is wished.

    Where that is bfloat16, the net is first run in both formats on the example that its ports make. It is served in
    float32, with a warning, where the results are further apart than :data:`MOST_LEVELS` and :data:`MEAN_LEVELS` allow,
    and where ``precision`` is ``auto`` and ``device`` has no units for bfloat16.
    """
    dtype = dtype_of(precision, device)
    if dtype == torch.float32:
        if precision == "auto":
            _say_that_units_are_missing(device)
        return dtype
    most, mean = levels_apart(artifact, device, dtype)
    if most <= MOST_LEVELS and mean <= MEAN_LEVELS:
        return dtype
    logger.warning(
        "The model is served in float32: in bfloat16 its results are off by up to %.2f levels of 255 and by %.2f on "
        "average, and %.2f and %.2f are allowed.",
        *(most, mean, MOST_LEVELS, MEAN_LEVELS),
    )
    return torch.float32


@lru_cache  # once in a process, however many models it serves
def _say_that_units_are_missing(device: torch.device) -> None:
    limited = limit_told() if device.type == "cpu" else ""
    logger.warning("Models are served in float32: this %s has no units for bfloat16%s.", device.type, limited)


@torch.inference_mode()
def levels_apart(artifact: Artifact, device: torch.device, dtype: torch.dtype) -> tuple[float, float]:
    """How far the image that ``artifact`` gives in ``dtype`` is from that in float32: at most, and on average.

    In levels of 255; infinite where it is not finite. Values outside of the range count as its ends.
    """
    name = str(artifact.image_output)
    port = artifact.outputs[name]
    assert isinstance(port, Image)
    tensors = {key: example(of, _EXAMPLE_SIDE, _EXAMPLE_SIDE).to(device) for key, of in artifact.inputs.items()}
    exact = artifact.run(tensors)[name].double()
    with torch.autocast(device.type, dtype=dtype):
        rough = artifact.run(tensors)[name].double()
    low, high = port.value_range
    apart = (rough.clamp(low, high) - exact.clamp(low, high)).abs() * (255 / (high - low))
    apart = apart.nan_to_num(torch.inf)
    return apart.max().item(), apart.mean().item()
