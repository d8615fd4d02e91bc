"""A generator at work on one device: batches of inputs in, named outputs out, and what happens without memory.

The net is in evaluation mode, nothing is padded, and a net that draws random numbers of its own is refused: so a
sample does not depend on what is made beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from gan_lib.core.allocator import keep_freed_memory
from gan_lib.core.errors import UserError
from gan_lib.export.artifact import Artifact
from gan_lib.scoring.predictor import OutOfMemory, in_memory


class SamplePredictor:
    """Runs ``artifact`` on ``device``; ``batch_size`` is halved for good whenever memory runs out."""

    def __init__(self, artifact: Artifact, device: torch.device, batch_size: int) -> None:
        self.artifact = artifact
        self.device = device
        self.batch_size = batch_size
        self._checked = False
        artifact.net.to(device).eval()
        if device.type == "cpu":
            keep_freed_memory()

    @torch.inference_mode()
    def run(self, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        """One tensor (B, ...) for each input of the artifact, on the CPU -> one for each output, on the CPU.

        Where a batch does not fit, its halves are tried.

        Raises:
            OutOfMemory: a single sample does not fit.
            UserError: the net draws random numbers of its own.
        """
        outputs, message = in_memory(lambda: self._run(inputs), self.device)
        if outputs is not None:
            return outputs
        size = len(inputs[0])
        if size == 1:
            raise OutOfMemory(f"a single sample does not fit into the memory of {self.device}: {message}")
        half = self.batch_size = size // 2
        first, second = (self.run([values[part] for values in inputs]) for part in (slice(half), slice(half, None)))
        return {name: torch.cat([first[name], second[name]]) for name in first}

    def _run(self, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        before = None if self._checked else _random_states(self.device)
        tensors = dict(zip(self.artifact.inputs, (values.to(self.device) for values in inputs), strict=True))
        with _exact_convolutions():
            outputs = {name: values.cpu() for name, values in self.artifact.run(tensors).items()}
        if before is not None and not all(map(torch.equal, before, _random_states(self.device))):
            raise UserError(
                f"{type(self.artifact.net).__name__} draws random numbers of its own, so no sample could be made "
                "again: let the net take them as an input of its artifact, a Latent."
            )
        self._checked = True
        return outputs


def _exact_convolutions() -> AbstractContextManager[None]:
    """TensorFloat-32, torch's default in cuDNN, keeps 10 bits: samples would differ by 1e-3 from batch to batch."""
    return torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)  # type: ignore[no-any-return]


def _random_states(device: torch.device) -> list[Tensor]:
    states = [torch.default_generator.get_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states
