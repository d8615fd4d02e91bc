"""RRDBNet under the three sets of names that it was published with."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from gan_lib.export.ports import Image
from gan_lib.importing.formats.format import UNIT_RANGE, FoundNet, PublicFormat, Tensors, count, of_convs, size
from gan_lib.importing.reading import PublishedFileError
from gan_lib.importing.settings import ChoiceSettings
from gan_lib.nets.super_resolution.rrdb import RRDBNet


@dataclass(frozen=True)
class _Names:
    """What one publication calls the convolutions.

    dense: of block b, its dense block d (from 1) and that one's convolution c (from 1). upsample: from 0. body_end: by
    the number of blocks. hr, last: by the number of upsamplings.
    """

    head: str
    dense: str
    body_end: Callable[[int], str]
    upsample: Callable[[int], str]
    hr: Callable[[int], str]
    last: Callable[[int], str]
    blocks_counted: str
    convs_after_body: str

    def of(self, blocks: int, upsamples: int) -> dict[str, str]:
        """Our convolutions -> theirs."""
        dense = {
            f"body.{b}.blocks.{d}.convs.{c}": self.dense.format(b=b, d=d + 1, c=c + 1)
            for b in range(blocks)
            for d in range(3)
            for c in range(5)
        }
        return {
            "head": self.head,
            **dense,
            "body_end": self.body_end(blocks),
            **{f"upsamples.{i}": self.upsample(i) for i in range(upsamples)},
            "tail.0": self.hr(upsamples),
            "tail.2": self.last(upsamples),
        }


_OLD = _Names(
    head="model.0",
    dense="model.1.sub.{b}.RDB{d}.conv{c}.0",
    body_end=lambda blocks: f"model.1.sub.{blocks}",
    upsample=lambda i: f"model.{3 * i + 3}",  # each follows its own enlargement and is followed by its activation
    hr=lambda upsamples: f"model.{3 * upsamples + 2}",
    last=lambda upsamples: f"model.{3 * upsamples + 4}",
    blocks_counted=r"model\.1\.sub\.(\d+)\.RDB1\.",
    convs_after_body=r"model\.([2-9]|\d\d+)\.weight",
)
_ESRGAN = _Names(
    head="conv_first",
    dense="RRDB_trunk.{b}.RDB{d}.conv{c}",
    body_end=lambda blocks: "trunk_conv",
    upsample=lambda i: f"upconv{i + 1}",
    hr=lambda upsamples: "HRconv",
    last=lambda upsamples: "conv_last",
    blocks_counted=r"RRDB_trunk\.(\d+)\.",
    convs_after_body=r"(upconv\d+|HRconv|conv_last)\.weight",
)
_BASICSR = _Names(
    head="conv_first",
    dense="body.{b}.rdb{d}.conv{c}",
    body_end=lambda blocks: "conv_body",
    upsample=lambda i: f"conv_up{i + 1}",
    hr=lambda upsamples: "conv_hr",
    last=lambda upsamples: "conv_last",
    blocks_counted=r"body\.(\d+)\.",
    convs_after_body=r"(conv_up\d+|conv_hr|conv_last)\.weight",
)


def _reader(names: _Names) -> Callable[[Tensors, ChoiceSettings], FoundNet]:
    def read(tensors: Tensors, choices: ChoiceSettings) -> FoundNet:
        blocks = count(tensors, names.blocks_counted)
        upsamples = max(count(tensors, names.convs_after_body) - 2, 0)
        channels = size(tensors, f"{names.last(upsamples)}.weight", 0)
        unshuffle = _unshuffle(size(tensors, f"{names.head}.weight", 1), channels)
        if 2**upsamples % unshuffle:
            raise PublishedFileError(f"it shrinks by {unshuffle} and enlarges by {2**upsamples}")
        scale = 2**upsamples // unshuffle
        image = Image(channels, UNIT_RANGE)
        arguments = {
            "scale": scale,
            "base_channels": size(tensors, f"{names.head}.weight", 0),
            "blocks": blocks,
            "growth_channels": size(tensors, f"{names.dense.format(b=0, d=1, c=1)}.weight", 0),
            "channels": channels,
            "unshuffle": unshuffle,
        }
        return FoundNet(
            description=f"RRDBNet x{scale}, {blocks} blocks of {arguments['base_channels']} channels",
            net_class=RRDBNet,
            arguments=arguments,
            names=of_convs(names.of(blocks, upsamples)),
            image=Image(channels, UNIT_RANGE, size_divisor=unshuffle),
            result=image,
            scale=scale,
            narrow={"base_channels": 2, "growth_channels": 1},
        )

    return read


def _unshuffle(channels_in: int, channels: int) -> int:
    """Side of the squares that became channels before the first layer."""
    side = math.isqrt(channels_in // channels) if channels else 0
    if side < 1 or side**2 * channels != channels_in:
        raise PublishedFileError(f"it takes {channels_in} channels and gives {channels}")
    return side


FORMATS = (
    PublicFormat(
        "ESRGAN (RRDBNet, old key names)", ("model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight"), _reader(_OLD)
    ),
    PublicFormat("ESRGAN (RRDBNet)", ("conv_first.weight", "RRDB_trunk.0.RDB1.conv1.weight"), _reader(_ESRGAN)),
    PublicFormat(
        "Real-ESRGAN and BasicSR (RRDBNet)", ("conv_first.weight", "body.0.rdb1.conv1.weight"), _reader(_BASICSR)
    ),
)
"""RRDBNet of ESRGAN (first publication and second) and of BasicSR, which Real-ESRGAN is trained by."""
