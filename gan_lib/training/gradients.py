"""A net's gradient as one flat tensor, averaged over the ranks bucket by bucket while the backward pass still runs.

No DistributedDataParallel: that takes one forward pass for one backward pass, while a GAN's update may hold two
discriminator passes, a penalty with a gradient of its own, or no use of some parameters at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gan_lib.training.distributed.group import Group

BUCKET_BYTES = 25 * 2**20
"""Large enough that bandwidth counts and not latency; what DistributedDataParallel takes too.

So a smaller net's gradient leaves in one piece after the backward pass. To cut it finer did not pay where ranks compute
on CPUs, for the exchange takes the same cores: ``benchmarks/trainer.py --only ranks`` prints both.
"""


class FlatGradient:
    """The gradients of ``parameters``, each a view of :attr:`flat`, so that one call clears, clips or sends them all.

    They lie in reverse order: the last layers' gradients are ready first, and a bucket leaves as soon as it is full.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], group: Group, bucket_bytes: int = BUCKET_BYTES) -> None:
        self._group = group
        self._parameters = list(parameters)[::-1]
        first = self._parameters[0]
        sizes = [parameter.numel() for parameter in self._parameters]
        self.flat = torch.zeros(sum(sizes), dtype=first.dtype, device=first.device)
        parts = self.flat.split(sizes)
        for parameter, part in zip(self._parameters, parts, strict=True):
            parameter.grad = part.as_strided(parameter.shape, parameter.stride(), part.storage_offset())
        self._bucket_of, self._buckets = _fill_buckets(self.flat, sizes, bucket_bytes)
        self._missing: list[int] = []
        self._sent: list[dist.Work] = []
        if group.size > 1:
            for parameter, bucket in zip(self._parameters, self._bucket_of, strict=True):
                parameter.register_post_accumulate_grad_hook(lambda _, bucket=bucket: self._arrived(bucket))

    def clear(self) -> None:
        """Set the gradient to zero."""
        self.flat.zero_()

    def expect_last(self) -> None:
        """The coming backward pass is the last before :meth:`average`: send each bucket once it is full."""
        if self._group.size > 1:
            self._missing = [self._bucket_of.count(bucket) for bucket in range(len(self._buckets))]

    def average(self) -> None:
        """Send what is left, wait for all of it, and leave the mean over the ranks."""
        if self._group.size == 1:
            return
        self._missing = [0] * len(self._buckets)
        self._send_full()
        for work in self._sent:
            work.wait()
        self._sent, self._missing = [], []
        self.flat /= self._group.size

    def _arrived(self, bucket: int) -> None:
        if self._missing:
            self._missing[bucket] -= 1
            self._send_full()

    def _send_full(self) -> None:
        """Send full buckets, in one order on all ranks: the next waits where an earlier one is not full."""
        while len(self._sent) < len(self._buckets) and self._missing[len(self._sent)] == 0:
            self._sent.append(dist.all_reduce(self._buckets[len(self._sent)], async_op=True))


def clip_and_check(flats: Iterable[FlatGradient], clip_norm: float | None) -> tuple[Tensor, Tensor]:
    """Scale gradients to a common norm of ``clip_norm`` at most; set them to zero where that norm is not finite.

    Returns:
        The norm before, and 1.0 where it was not finite (else 0.0): scalars on the device, so that nothing waits.
    """
    flats = list(flats)
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(f.flat) for f in flats]))
    bad = ~norm.isfinite()
    for gradient in flats:
        if clip_norm is not None:
            gradient.flat.mul_((clip_norm / (norm + 1e-6)).clamp(max=1.0))
        gradient.flat.masked_fill_(bad, 0.0)  # a product would not do: 0 times NaN is NaN
    return norm, bad.to(norm.dtype)


def _fill_buckets(flat: Tensor, sizes: Sequence[int], bucket_bytes: int) -> tuple[list[int], list[Tensor]]:
    """Cut ``flat`` between parameters into buckets of at least ``bucket_bytes`` (but the last).

    Returns:
        The bucket of each parameter, and the buckets as views.
    """
    bucket_of, lengths = [], [0]
    for size in sizes:
        if lengths[-1] * flat.element_size() >= bucket_bytes:
            lengths.append(0)
        bucket_of.append(len(lengths) - 1)
        lengths[-1] += size
    return bucket_of, list(flat.split(lengths))
