"""The U-Net of the public repository of CycleGAN and pix2pix (``unet_128``, ``unet_256``): levels within levels."""

from __future__ import annotations

from torch import nn

from gan_lib.export.ports import Image
from gan_lib.importing.formats.format import FoundNet, PublicFormat, Tensors, size
from gan_lib.importing.formats.norms import INSTANCE, OWN, RUNNING, names_of_norms, norm_of
from gan_lib.importing.reading import PublishedFileError
from gan_lib.importing.settings import ChoiceSettings
from gan_lib.nets.translation.published_unet import BatchNormUNet, InstanceNormUNet, OwnNormUNet

_OUTERMOST, _NEXT = "model.model", "model.model.1.model"
_NETS: dict[str, type[nn.Module]] = {INSTANCE: InstanceNormUNet, RUNNING: BatchNormUNet, OWN: OwnNormUNet}


def _read(tensors: Tensors, choices: ChoiceSettings) -> FoundNet:
    levels = _levels(tensors)
    convs, norms = _layers(levels)
    norm = norm_of(tensors, norms.values(), choices)
    if norm == INSTANCE and f"{_OUTERMOST}.0.bias" not in tensors:
        raise PublishedFileError("it has no norm, as with the option --norm none, which is not known")
    width, channels = (size(tensors, f"{_OUTERMOST}.0.weight", axis) for axis in (0, 1))
    made = size(tensors, f"{_OUTERMOST}.3.weight", 1)
    depth = len(levels) + 1
    names, unused = names_of_norms(norm, tensors, norms)
    names |= {f"{ours}.weight": f"{theirs}.weight" for ours, theirs in convs.items()}
    with_bias = convs if norm == INSTANCE else {"head.1": f"{_OUTERMOST}.3"}
    names |= {f"{ours}.bias": f"{theirs}.bias" for ours, theirs in with_bias.items()}
    return FoundNet(
        description=f"U-Net, {depth} halvings, {width} channels, {norm} norm",
        net_class=_NETS[norm],
        arguments={
            "base_channels": width,
            "num_downsamples": depth,
            "in_channels": channels,
            "out_channels": made,
        },
        names=names,
        image=Image(channels, size_divisor=2**depth),
        result=Image(made),
        scale=1,
        narrow={"base_channels": 1},
        unused=unused,
    )


def _levels(tensors: Tensors) -> list[str]:
    """What the keys of each level begin with, from the second to the innermost."""
    levels = [_NEXT]
    while f"{levels[-1]}.3.model.1.weight" in tensors:
        levels.append(f"{levels[-1]}.3.model")
    return levels


def _layers(levels: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Our convolutions -> theirs, and our norms -> theirs. The innermost level has one norm, going up."""
    *between, innermost = levels
    convs = {"downs.0.0": f"{_OUTERMOST}.0", "head.1": f"{_OUTERMOST}.3"}
    convs |= {f"downs.{number}.1": f"{level}.1" for number, level in enumerate(levels, 1)}
    norms = {f"downs.{number}.2": f"{level}.2" for number, level in enumerate(between, 1)}
    ups = [(f"{innermost}.3", f"{innermost}.4"), *((f"{level}.5", f"{level}.6") for level in reversed(between))]
    for number, (conv, norm) in enumerate(ups):
        convs[f"ups.{number}.1"], norms[f"ups.{number}.2"] = conv, norm
    return convs, norms


FORMATS = (PublicFormat("pix2pix (U-Net generator)", ("model.model.0.weight", f"{_NEXT}.1.weight"), _read),)
"""U-Nets, as pix2pix has them by default."""
