"""Gradients as flat tensors, averaged over the ranks bucket by bucket while the backward pass still runs.

No DistributedDataParallel: that takes one forward pass for one backward pass, while a GAN's update may hold two
discriminator passes, a penalty with a gradient of its own, or no use of some parameters at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

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

    def __init__(self, parameters: Sequence[nn.Parameter], bucket_bytes: int | None = None) -> None:
        """``parameters``: at least one, all of one type and on one device. ``bucket_bytes``: None for BUCKET_BYTES."""
        self._parameters = list(parameters)[::-1]
        first = self._parameters[0]
        sizes = [parameter.numel() for parameter in self._parameters]
        self.flat = torch.zeros(sum(sizes), dtype=first.dtype, device=first.device)
        parts = self.flat.split(sizes)
        for parameter, part in zip(self._parameters, parts, strict=True):
            parameter.grad = part.as_strided(parameter.shape, parameter.stride(), part.storage_offset())
        self._bucket_of, self.buckets = _fill_buckets(self.flat, sizes, bucket_bytes or BUCKET_BYTES)
        self._tell: Callable[[int], None] | None = None
        self._is_hooked = False

    @property
    def parameters_of_buckets(self) -> list[int]:
        """How many parameters each bucket holds."""
        return [self._bucket_of.count(bucket) for bucket in range(len(self.buckets))]

    def listen(self, tell: Callable[[int], None] | None) -> None:
        """From now on call ``tell(bucket)`` when a parameter's gradient has arrived in a bucket; None: nobody."""
        if tell is not None and not self._is_hooked:
            self._is_hooked = True
            for parameter, bucket in zip(self._parameters, self._bucket_of, strict=True):
                parameter.register_post_accumulate_grad_hook(lambda _, bucket=bucket: self._arrived(bucket))
        self._tell = tell

    def _arrived(self, bucket: int) -> None:
        if self._tell is not None:
            self._tell(bucket)


def flat_gradients(parameters: Iterable[nn.Parameter]) -> list[FlatGradient]:
    """The gradients of any parameters: one flat tensor for each type and device among them, none for none."""
    groups: dict[tuple[torch.dtype, torch.device], list[nn.Parameter]] = {}
    for parameter in parameters:
        groups.setdefault((parameter.dtype, parameter.device), []).append(parameter)
    return [FlatGradient(group) for group in groups.values()]


class Exchange:
    """Averages the gradients of one update over the ranks; with one rank there is nothing to do.

    Buckets leave in one order on all ranks, for one rank's backward pass may come to them in another order: each waits
    for those before it.
    """

    def __init__(self, gradients: Sequence[FlatGradient], group: Group) -> None:
        self._gradients, self._group = list(gradients), group
        self._buckets = [bucket for gradient in self._gradients for bucket in gradient.buckets]
        self._missing: list[int] = []
        self._sent: list[dist.Work] = []

    @property
    def flats(self) -> list[Tensor]:
        """The gradients' flat tensors."""
        return [gradient.flat for gradient in self._gradients]

    def clear(self) -> None:
        """Set the gradients to zero."""
        for flat in self.flats:
            flat.zero_()

    def expect_last(self) -> None:
        """The coming backward pass is the last before :meth:`average`: send each bucket once it is full."""
        if self._group.size == 1:
            return
        self._missing = [count for gradient in self._gradients for count in gradient.parameters_of_buckets]
        before = 0
        for gradient in self._gradients:
            gradient.listen(partial(self._arrived, before))
            before += len(gradient.buckets)

    def average(self) -> None:
        """Send what is left, wait for all of it, and leave the mean over the ranks."""
        if self._group.size == 1:
            return
        for gradient in self._gradients:
            gradient.listen(None)
        self._missing = [0] * len(self._buckets)
        self._send_full()
        for work in self._sent:
            work.wait()
        self._sent = []
        for flat in self.flats:
            flat /= self._group.size

    def _arrived(self, before: int, bucket: int) -> None:
        self._missing[before + bucket] -= 1
        self._send_full()

    def _send_full(self) -> None:
        while len(self._sent) < len(self._buckets) and self._missing[len(self._sent)] == 0:
            self._sent.append(dist.all_reduce(self._buckets[len(self._sent)], async_op=True))


def clip_and_check(flats: Sequence[Tensor], clip_norm: float | None) -> tuple[Tensor, Tensor]:
    """Scale gradients in place to a common norm of ``clip_norm`` at most, and tell whether that norm is finite.

    Returns:
        The norm before, and 1.0 where it was not finite (else 0.0): float32 scalars on the device, so that nothing
        waits. Both 0 where there are no gradients.
    """
    if not flats:
        return torch.zeros(()), torch.zeros(())
    device = flats[0].device
    norms = [torch.linalg.vector_norm(f, dtype=torch.promote_types(f.dtype, torch.float32)) for f in flats]
    norm = torch.linalg.vector_norm(torch.stack([each.to(device, torch.float32) for each in norms]))
    if clip_norm is not None:
        scale = (clip_norm / (norm + 1e-6)).clamp(max=1.0)
        for flat in flats:
            flat.mul_(scale.to(flat.device))
    return norm, (~norm.isfinite()).to(norm.dtype)


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
