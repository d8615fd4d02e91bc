"""The media: what the parts of a sample may be, one module each. Sources and publishing know none of them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gan_lib.preprocessing.media.array import ArrayMedium
from gan_lib.preprocessing.media.image import ImageMedium
from gan_lib.preprocessing.media.label_map import LabelMapMedium
from gan_lib.preprocessing.media.sound import SoundMedium
from gan_lib.preprocessing.media.tokens import TokensMedium

AnyMedium = Annotated[
    ImageMedium | LabelMapMedium | SoundMedium | TokensMedium | ArrayMedium, Field(discriminator="kind")
]
"""A medium in a preprocessing configuration; its ``kind`` says which one is meant."""
