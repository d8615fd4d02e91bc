"""Our PReLU is torch's, to the bit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gan_lib.nets.prelu import PReLU


def learned(kind: type[nn.PReLU], dtype: torch.dtype, layout: torch.memory_format) -> list[torch.Tensor]:
    """The result, and the gradients of input and weight."""
    generator = torch.Generator().manual_seed(0)
    x, upstream = torch.randn(2, 3, 5, 8, 8, generator=generator).to(dtype)
    x[0, 0] = 0.0
    x, upstream = (each.contiguous(memory_format=layout) for each in (x, upstream))
    net = kind(5)
    x.requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        y = net(x)
    y.backward(upstream)
    assert x.grad is not None and net.weight.grad is not None
    return [y.detach(), x.grad, net.weight.grad]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_result_and_gradients_are_those_of_torch(dtype, layout):
    for ours, theirs in zip(learned(PReLU, dtype, layout), learned(nn.PReLU, dtype, layout), strict=True):
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)


def test_it_has_a_second_derivative():
    net = PReLU(2).double()
    x = torch.randn(2, 2, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    assert torch.autograd.gradgradcheck(net, (x,))
