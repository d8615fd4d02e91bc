"""MSRResNet of BasicSR, and of MMSR before it, which had other names for two of its parts."""

from __future__ import annotations

import math
from collections.abc import Callable

from gan_lib.export.ports import Image
from gan_lib.importing.formats.format import UNIT_RANGE, FoundNet, PublicFormat, Tensors, count, of_convs, size
from gan_lib.importing.reading import PublishedFileError
from gan_lib.importing.settings import ChoiceSettings
from gan_lib.nets.super_resolution.msrresnet import MSRResNet


def _reader(body: str, hr: str) -> Callable[[Tensors, ChoiceSettings], FoundNet]:
    def read(tensors: Tensors, choices: ChoiceSettings) -> FoundNet:
        blocks = count(tensors, rf"{body}\.(\d+)\.")
        width, channels = (size(tensors, "conv_first.weight", axis) for axis in (0, 1))
        upsamples = count(tensors, r"(upconv\d+)\.")
        factor = math.isqrt(size(tensors, "upconv1.weight", 0) // width) if width else 0
        if (factor, upsamples) not in ((2, 1), (3, 1), (2, 2)):
            raise PublishedFileError(f"it enlarges {upsamples} times by {factor}, and 2, 3 and 2 by 2 are known")
        names = {"head.0": "conv_first", "tail.0": hr, "tail.2": "conv_last"}
        for block in range(blocks):
            names |= {f"body.{block}.layers.{2 * i}": f"{body}.{block}.conv{i + 1}" for i in range(2)}
        names |= {f"upsamples.{3 * i}": f"upconv{i + 1}" for i in range(upsamples)}
        scale, image = factor**upsamples, Image(channels, UNIT_RANGE)
        return FoundNet(
            description=f"MSRResNet x{scale}, {blocks} blocks of {width} channels",
            net_class=MSRResNet,
            arguments={"scale": scale, "base_channels": width, "blocks": blocks, "channels": channels},
            names=of_convs(names),
            image=image,
            result=image,
            scale=scale,
            narrow={"base_channels": 2},
        )

    return read


FORMATS = (
    PublicFormat(
        "BasicSR's SRResNet (MSRResNet)", ("conv_first.weight", "body.0.conv1.weight"), _reader("body", "conv_hr")
    ),
    PublicFormat(
        "MMSR's SRResNet (MSRResNet)",
        ("conv_first.weight", "recon_trunk.0.conv1.weight"),
        _reader("recon_trunk", "HRconv"),
    ),
)
"""MSRResNet x2, x3 and x4."""
