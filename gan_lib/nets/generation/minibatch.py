"""What lets a discriminator see that all samples of a batch are alike: minibatch discrimination and deviation.

Both compare the rows that one rank holds at once, so ranks and micro-batches change what they tell.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MinibatchDiscrimination(nn.Module):
    """Features (B, inputs) -> (B, inputs + kernels): how near each sample is to the others, appended to its features.

    Salimans et al. 2016, section 3.2: rows M_i of (kernels, dimensions); appended is sum over j of
    exp(-|M_i - M_j|_1) for each kernel, j = i included as in the paper's equation.
    """

    def __init__(self, inputs: int, kernels: int = 100, dimensions: int = 5) -> None:
        super().__init__()
        self.kernels, self.dimensions = kernels, dimensions
        self.tensor = nn.Linear(inputs, kernels * dimensions, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        rows = self.tensor(features).view(-1, self.kernels, self.dimensions)
        distances = (rows.unsqueeze(0) - rows.unsqueeze(1)).abs().sum(dim=3)  # (B, B, kernels)
        return torch.cat([features, torch.exp(-distances).sum(dim=1)], dim=1)


def append_minibatch_stddev(x: Tensor, group: int = 4) -> Tensor:
    """(B, C, H, W) -> (B, C + 1, H, W): the mean deviation within groups of samples as a further channel.

    Karras et al. 2018 (progressive growing), section 3: the standard deviation of each feature at each place over a
    group, averaged over features and places. Samples i, i + B / group, ... form a group; where ``group`` does not
    divide B, the largest smaller number that does is taken.
    """
    count, channels, height, width = x.shape
    size = next(size for size in range(min(group, count), 0, -1) if count % size == 0)
    grouped = x.float().view(size, -1, channels, height, width)
    deviation = (grouped.var(dim=0, unbiased=False) + 1e-8).sqrt().mean(dim=(1, 2, 3))  # (B / size,)
    channel = deviation.repeat(size).view(-1, 1, 1, 1).expand(-1, 1, height, width)
    return torch.cat([x, channel.to(x.dtype)], dim=1)
