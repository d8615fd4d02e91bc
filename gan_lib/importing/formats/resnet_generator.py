"""The ResNet generator of the public repository of CycleGAN and pix2pix (``resnet_6blocks``, ``resnet_9blocks``)."""

from __future__ import annotations

from torch import nn

from gan_lib.export.ports import Image
from gan_lib.importing.formats.format import FoundNet, PublicFormat, Tensors, count, size
from gan_lib.importing.formats.norms import INSTANCE, OWN, RUNNING, names_of_norms, norm_of
from gan_lib.importing.reading import PublishedFileError
from gan_lib.importing.settings import ChoiceSettings
from gan_lib.nets.cyclegan import ResnetGenerator
from gan_lib.nets.translation.published_resnet import (
    BatchNormResnetGenerator,
    InstanceNormResnetGenerator,
    OwnNormResnetGenerator,
)

_FIRST_BLOCK = 10  # a padding, the first layer and two halvings lie before it, each with norm and activation
_NETS: dict[str, type[nn.Module]] = {
    INSTANCE: InstanceNormResnetGenerator,
    RUNNING: BatchNormResnetGenerator,
    OWN: OwnNormResnetGenerator,
}


def _read(tensors: Tensors, choices: ChoiceSettings) -> FoundNet:
    blocks = count(tensors, r"model\.(\d+)\.conv_block\.")
    last = f"model.{_FIRST_BLOCK + blocks + 7}"
    convs, norms = _layers(tensors, blocks)
    norm = norm_of(tensors, norms.values(), choices)
    if norm == INSTANCE and "model.1.bias" not in tensors:
        raise PublishedFileError("it has no norm, as with the option --norm none, which is not known")
    width, channels = (size(tensors, "model.1.weight", axis) for axis in (0, 1))
    made = size(tensors, f"{last}.weight", 0)
    arguments: dict[str, int] = {"base_channels": width, "blocks": blocks, "channels": channels}
    net_class = _NETS[norm]
    if norm == INSTANCE and made == channels:
        net_class = ResnetGenerator  # with which trainings of our own go on
    else:
        arguments["out_channels"] = made
    names, unused = names_of_norms(norm, tensors, norms)
    names |= {f"{ours}.weight": f"{theirs}.weight" for ours, theirs in convs.items()}
    with_bias = convs if norm == INSTANCE else {"decode.7": last}
    names |= {f"{ours}.bias": f"{theirs}.bias" for ours, theirs in with_bias.items()}
    return FoundNet(
        description=f"ResNet generator, {blocks} blocks, {width} channels, {norm} norm",
        net_class=net_class,
        arguments=arguments,
        names=names,
        image=Image(channels, size_divisor=4),
        result=Image(made),
        scale=1,
        narrow={"base_channels": 1},
        unused=unused,
    )


def _layers(tensors: Tensors, blocks: int) -> tuple[dict[str, str], dict[str, str]]:
    """Our convolutions -> theirs, and our norms -> theirs, which follow them. Dropout moves a block's second half."""
    convs = {f"encode.{number}": f"model.{number}" for number in (1, 4, 7)}
    second = 6 if f"model.{_FIRST_BLOCK}.conv_block.6.weight" in tensors and _has_dropout(tensors) else 5
    norms = {f"encode.{number}": f"model.{number}" for number in (2, 5, 8)}
    for block in range(blocks):
        theirs = f"model.{_FIRST_BLOCK + block}.conv_block"
        convs |= {f"body.{block}.layers.1": f"{theirs}.1", f"body.{block}.layers.5": f"{theirs}.{second}"}
        norms |= {f"body.{block}.layers.2": f"{theirs}.2", f"body.{block}.layers.6": f"{theirs}.{second + 1}"}
    after = _FIRST_BLOCK + blocks
    convs |= {f"decode.{number}": f"model.{after + number}" for number in (0, 3, 7)}
    norms |= {f"decode.{number}": f"model.{after + number}" for number in (1, 4)}
    return convs, norms


def _has_dropout(tensors: Tensors) -> bool:
    """With batch norm without dropout there is a tensor of that number too: a norm's, of one dimension."""
    return tensors[f"model.{_FIRST_BLOCK}.conv_block.6.weight"].dim() == 4


FORMATS = (PublicFormat("CycleGAN (ResNet generator)", ("model.1.weight", "model.10.conv_block.1.weight"), _read),)
"""ResNet generators, as CycleGAN has them by default."""
