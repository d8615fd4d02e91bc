"""Batch norm over the batches of all ranks, on any backend (torch's own SyncBatchNorm needs CUDA)."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from gan_lib.training.distributed.group import Group


def synchronise_batch_norm(module: nn.Module, group: Group) -> None:
    """Replace every batch norm inside ``module`` by one over all ranks; nothing changes with one rank."""
    if group.size == 1:
        return
    for name, child in module.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            setattr(module, name, SyncBatchNorm(child, group.size))
        else:
            synchronise_batch_norm(child, group)


class SyncBatchNorm(nn.Module):
    """Takes over ``original``'s parameters and buffers under their own names; every rank must call it alike."""

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(self, original: nn.modules.batchnorm._BatchNorm, world_size: int) -> None:
        super().__init__()
        self.world_size = world_size
        self.eps = original.eps
        self.momentum = original.momentum
        self.register_parameter("weight", original.weight)
        self.register_parameter("bias", original.bias)
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(original, name))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training and self.running_mean is not None:  # as nn.BatchNorm: without averages, always the batch's
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        own = x.float()
        others = [dimension for dimension in range(own.ndim) if dimension != 1]
        shape = [1, -1] + [1] * (own.ndim - 2)
        mean = _mean_over_ranks(own.mean(others), self.world_size)
        centred = own - mean.view(shape)
        variance = _mean_over_ranks(centred.square().mean(others), self.world_size)
        self._remember(mean, variance, count=own.numel() // own.shape[1] * self.world_size)
        normal = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.weight is not None and self.bias is not None:
            normal = normal * self.weight.view(shape) + self.bias.view(shape)
        return normal.to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        new = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, new)
        self.running_var.lerp_(variance * (count / (count - 1)), new)


class _SumOverRanks(torch.autograd.Function):
    """All-reduce whose gradient is one too: every rank's loss depends on every rank's batch."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


def _mean_over_ranks(x: Tensor, world_size: int) -> Tensor:
    """Mean of equally large batches' means; every rank holds as many samples."""
    total: Tensor = _SumOverRanks.apply(x)
    return total / world_size
