"""The few things that ranks say to each other. With one rank each call returns at once.

Gradients have a module of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import safetensors.torch
import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Group:
    """Which of ``size`` ranks this one is; torch.distributed is initialised when there are several."""

    rank: int = 0
    size: int = 1

    def broadcast_(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite ``tensors`` with those of rank 0."""
        if self.size > 1:
            for tensor in tensors:
                told = tensor.contiguous()
                dist.broadcast(told, src=0)
                tensor.copy_(told)

    def average_(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite float ``tensors`` with their mean over the ranks, in one exchange."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.size
        for tensor, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def max_divergence(self, tensors: Iterable[Tensor]) -> float:
        """The largest difference between ranks in any float of ``tensors``: 0 while they hold the same weights."""
        flat = [tensor.detach().reshape(-1) for tensor in tensors]
        if self.size == 1 or not flat:
            return 0.0
        highest = torch.cat(flat)
        lowest = highest.clone()
        dist.all_reduce(highest, op=dist.ReduceOp.MAX)
        dist.all_reduce(lowest, op=dist.ReduceOp.MIN)
        return float((highest - lowest).max())

    def broadcast_from_rank0(self, value: float, device: torch.device) -> float:
        """Rank 0's ``value``, on every rank."""
        if self.size == 1:
            return value
        told = torch.tensor(value, dtype=torch.float64, device=device)
        dist.broadcast(told, src=0)
        return float(told)

    def gather(self, tensors: Mapping[str, Tensor], device: torch.device) -> list[dict[str, Tensor]]:
        """The named tensors of every rank, on the CPU, in rank order; names and shapes may differ between ranks.

        ``device``: where the backend takes tensors from.
        """
        own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        if self.size == 1:
            return [own]
        data = torch.frombuffer(bytearray(safetensors.torch.save(own)), dtype=torch.uint8).to(device)
        lengths = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(self.size)]
        dist.all_gather(lengths, torch.tensor([len(data)], device=device))
        longest = int(max(lengths))
        padded = torch.nn.functional.pad(data, (0, longest - len(data)))
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded)
        found = (part[: int(length)].cpu().numpy().tobytes() for part, length in zip(parts, lengths, strict=True))
        return [safetensors.torch.load(each) for each in found]
