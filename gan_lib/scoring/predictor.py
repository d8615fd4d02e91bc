"""An artifact at work on one device: batches of equal tiles in, their results out, and what happens without memory.

Knows nothing of files, images' borders or Spark.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor

from gan_lib.core.allocator import keep_freed_memory
from gan_lib.export.artifact import Artifact, pad_to_divisor, to_images, to_values
from gan_lib.export.ports import Image, LabelMap, Mask, Port
from gan_lib.nets.layout import set_layout
from gan_lib.scoring.precision import dtype_served
from gan_lib.scoring.settings import TilingSettings

Result = TypeVar("Result")

CPU_BATCH_PIXELS = 256 * 256
GPU_BATCH_PIXELS = 1024 * 1024

# What PyTorch's CPU allocator and oneDNN say; CUDA has a type of its own.
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "bad_alloc", "could not create a memory")


class OutOfMemory(Exception):
    """A single tile does not fit into the device's memory."""


class TilePredictor:
    """Runs ``artifact``, which goes from image to image, on ``device``.

    ``batch_pixels`` is how many input pixels go into a batch; it is halved for good whenever memory runs out.
    """

    def __init__(self, artifact: Artifact, device: torch.device, settings: TilingSettings) -> None:
        self.artifact = artifact
        self.settings = settings
        self.device = device
        artifact.net.to(device)
        if device.type == "cpu":
            keep_freed_memory()
        self.dtype = dtype_served(artifact, settings.precision, device)
        if self.dtype != torch.float32:
            set_layout(artifact.net)
        self.batch_pixels = settings.batch_pixels or (CPU_BATCH_PIXELS if device.type == "cpu" else GPU_BATCH_PIXELS)
        self._ports = tuple(artifact.inputs.values())
        self._image = tuple(artifact.inputs).index(str(artifact.image_input))
        self._result = tuple(artifact.outputs).index(str(artifact.image_output))
        output = artifact.outputs[str(artifact.image_output)]
        assert isinstance(output, Image)
        self.output = output
        self._with_image = [i == self._image or isinstance(port, Mask | LabelMap) for i, port in enumerate(self._ports)]

    @property
    def precision(self) -> str:
        """The number format that it computes 8-bit images in, by name: ``float32`` or ``bfloat16``."""
        return _name(self.dtype)

    def precision_of(self, image: np.dtype) -> str:
        """The same for images of another type of values: those of 16 bits would lose half of them in bfloat16."""
        return _name(torch.float32 if image == np.uint16 else self.dtype)

    @torch.inference_mode()
    def run(self, batch: Sequence[Tensor]) -> Tensor:
        """One tensor for each input, on the CPU -> (B, channels, scale*h, scale*w) on the CPU, uint8 or uint16.

        Images are (B, channels, h, w) uint8, masks and label maps (B, 1, h, w) integers, all else as the net sees it.
        Where the image is uint16 the result is it too, and float32 is computed. Where a batch does not fit, its halves
        are tried.

        Raises:
            OutOfMemory: a single tile does not fit.
        """
        results, message = in_memory(lambda: self._predict(batch), self.device)
        if results is not None:
            return results
        tiles = batch[self._image]
        if len(tiles) == 1:
            raise OutOfMemory(f"a tile of {tiles.shape[-2]}x{tiles.shape[-1]} pixels does not fit: {message}")
        self.batch_pixels = max(1, tiles[0, 0].numel() * len(tiles) // 2)
        half = len(tiles) // 2
        return torch.cat([self.run([values[:half] for values in batch]), self.run([values[half:] for values in batch])])

    def _predict(self, batch: Sequence[Tensor]) -> Tensor:
        values = (
            _TO_INPUT.get(type(port), _as_it_is)(port, value.to(self.device, non_blocking=True))
            for port, value in zip(self._ports, batch, strict=True)
        )
        deep = batch[self._image].dtype == torch.uint16
        dtype = torch.float32 if deep else self.dtype
        net: Callable[..., Tensor] = partial(self._run_net, dtype)
        results = (ensembled(net, self._with_image) if self.settings.self_ensemble else net)(*values)
        if dtype != torch.float32 and self.device.type == "cpu":
            return _levels(results, self.output)
        return to_images(results, self.output, torch.uint16 if deep else torch.uint8).cpu()

    def _run_net(self, dtype: torch.dtype, *values: Tensor) -> Tensor:
        with torch.autocast(self.device.type, dtype=dtype, enabled=dtype != torch.float32):
            results = self.artifact.net(*values)
        return results if isinstance(results, Tensor) else results[self._result]


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _levels(values: Tensor, port: Image) -> Tensor:
    """As :func:`to_images`, in one pass through memory and not in six.

    OpenCV rounds once less than it, so that a value just between two levels may become the other one.
    """
    low, high = port.value_range
    scale = 255 / (high - low)
    pixels = values.float().permute(0, 2, 3, 1).contiguous().numpy()
    lines = pixels.reshape(pixels.shape[0] * pixels.shape[1], -1)
    levels = cv2.addWeighted(lines, scale, lines, 0.0, -low * scale, dtype=cv2.CV_8U)
    return torch.from_numpy(levels.reshape(pixels.shape)).permute(0, 3, 1, 2)


def _padded_image(port: Image, levels: Tensor) -> Tensor:
    """Tiles fit already; what goes whole with them, such as a style image, may not."""
    return pad_to_divisor(to_values(levels, port), port.size_divisor)


def _mask(port: Mask, mask: Tensor) -> Tensor:
    return mask.float()


def _label_map(port: LabelMap, classes: Tensor) -> Tensor:
    return classes[:, 0].long()


def _as_it_is(port: Port, values: Tensor) -> Tensor:
    return values


# How what the rows' decoders give becomes what the net sees, on the device.
_TO_INPUT: Mapping[type[Port], Callable[[Any, Tensor], Tensor]] = {
    Image: _padded_image,
    Mask: _mask,
    LabelMap: _label_map,
}


def ensembled(net: Callable[..., Tensor], turned: Sequence[bool]) -> Callable[..., Tensor]:
    """The net averaged over the 8 flips and quarter turns of its input (Lim et al. 2017, geometric self-ensemble).

    ``turned`` says which of its inputs turn with the image: those that are cut with it.
    """

    def average(*values: Tensor) -> Tensor:
        results = []
        for turns in range(4):
            for flipped in (False, True):
                seen = [
                    torch.rot90(value.flip(-1) if flipped else value, turns, (-2, -1)) if with_image else value
                    for value, with_image in zip(values, turned, strict=True)
                ]
                result = torch.rot90(net(*seen), -turns, (-2, -1))
                results.append(result.flip(-1) if flipped else result)
        return torch.stack(results).mean(0)

    return average


def in_memory(run: Callable[[], Result], device: torch.device) -> tuple[Result | None, str]:
    """What ``run`` returns, and ""; or None and what PyTorch said, where the memory of ``device`` did not suffice."""
    try:
        return run(), ""
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        message = str(error).partition("\n")[0] or "MemoryError"
    # Only here, outside the handler, is the failed batch gone that the exception's frames held.
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return None, message


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` is how PyTorch says that memory ran out, on any device."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)
