"""SRVGGNetCompact of Real-ESRGAN's repository: a numbered row of convolutions and PReLUs."""

from __future__ import annotations

import math

from gan_lib.export.ports import Image
from gan_lib.importing.formats.format import UNIT_RANGE, FoundNet, PublicFormat, Tensors, count, of_convs, size
from gan_lib.importing.reading import PublishedFileError
from gan_lib.importing.settings import ChoiceSettings
from gan_lib.nets.super_resolution.srvgg import SRVGGNetCompact


def _read(tensors: Tensors, choices: ChoiceSettings) -> FoundNet:
    layers = count(tensors, r"body\.(\d+)\.")
    if layers % 2 == 0 or layers < 3:
        raise PublishedFileError(f"it has {layers} layers with weights, where convolutions and PReLUs take turns")
    channels = size(tensors, "body.0.weight", 1)
    made = size(tensors, f"body.{layers - 1}.weight", 0)
    scale = math.isqrt(made // channels) if channels else 0
    if scale < 1 or scale**2 * channels != made:
        raise PublishedFileError(f"it makes {made} values of a pixel of {channels} channels, which is no whole scale")
    arguments = {
        "scale": scale,
        "base_channels": size(tensors, "body.0.weight", 0),
        "convs": (layers - 3) // 2,
        "channels": channels,
    }
    names = of_convs({f"body.{number}": f"body.{number}" for number in range(0, layers, 2)})
    names |= {f"body.{number}.weight": f"body.{number}.weight" for number in range(1, layers, 2)}
    image = Image(channels, UNIT_RANGE)
    return FoundNet(
        description=f"SRVGGNetCompact x{scale}, {arguments['convs']} convolutions of {arguments['base_channels']}",
        net_class=SRVGGNetCompact,
        arguments=arguments,
        names=names,
        image=image,
        result=image,
        scale=scale,
        narrow={"base_channels": 2},
    )


FORMATS = (PublicFormat("Real-ESRGAN (SRVGGNetCompact)", ("body.0.weight", "body.1.weight"), _read),)
"""SRVGGNetCompact with PReLUs, as all published weights have them."""
