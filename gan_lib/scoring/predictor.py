"""An artifact at work on one device: batches of equal tiles in, translated tiles out, and what happens without memory.

Knows nothing of files, images' borders or Spark.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gan_lib.core.allocator import keep_freed_memory
from gan_lib.export.artifact import Artifact
from gan_lib.scoring.settings import TilingSettings

CPU_BATCH_PIXELS = 256 * 256
GPU_BATCH_PIXELS = 1024 * 1024

# What PyTorch's CPU allocator and oneDNN say; CUDA has a type of its own.
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "bad_alloc", "could not create a memory")


class OutOfMemory(Exception):
    """A single tile does not fit into the device's memory."""


class TilePredictor:
    """Runs ``artifact`` on ``device``.

    ``batch_pixels`` is how many input pixels go into a batch; it is halved for good whenever memory runs out.
    """

    def __init__(self, artifact: Artifact, device: torch.device, settings: TilingSettings) -> None:
        self.artifact = artifact
        self.settings = settings
        self.device = device
        artifact.net.to(device)
        if device.type == "cpu":
            keep_freed_memory()
        self.batch_pixels = settings.batch_pixels or (CPU_BATCH_PIXELS if device.type == "cpu" else GPU_BATCH_PIXELS)
        self._forward = ensembled(artifact.net) if settings.self_ensemble else artifact.net

    @torch.inference_mode()
    def run(self, tiles: Tensor) -> Tensor:
        """(B, 3, h, w) uint8 on the CPU -> (B, 3, scale*h, scale*w) uint8 on the CPU.

        Where a batch does not fit, its halves are tried.

        Raises:
            OutOfMemory: a single tile does not fit.
        """
        try:
            return self._translate(tiles)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            message = str(error).partition("\n")[0] or "MemoryError"
        # Only here, outside the handler, is the failed batch gone that the exception's frames held.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(tiles) == 1:
            raise OutOfMemory(f"a tile of {tiles.shape[-2]}x{tiles.shape[-1]} pixels does not fit: {message}")
        self.batch_pixels = max(1, tiles[0, 0].numel() * len(tiles) // 2)
        half = len(tiles) // 2
        return torch.cat([self.run(tiles[:half]), self.run(tiles[half:])])

    def _translate(self, tiles: Tensor) -> Tensor:
        values = self.artifact.to_values(tiles.to(self.device, non_blocking=True))
        return self.artifact.to_images(self._forward(values)).cpu()


def ensembled(net: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The net averaged over the 8 flips and quarter turns of its input (Lim et al. 2017, geometric self-ensemble)."""

    def average(values: Tensor) -> Tensor:
        results = []
        for turns in range(4):
            for mirrored in (False, True):
                seen = torch.rot90(values.flip(-1) if mirrored else values, turns, (-2, -1))
                result = torch.rot90(net(seen), -turns, (-2, -1))
                results.append(result.flip(-1) if mirrored else result)
        return torch.stack(results).mean(0)

    return average


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` is how PyTorch says that memory ran out, on any device."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)
