"""The medium of label maps: the class of each pixel, exact through every resize and crop."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from gan_lib.core.errors import Rejected
from gan_lib.core.images import decode_label_map
from gan_lib.dataset.schema import PngField
from gan_lib.preprocessing.cropping.resizing import resized_classes
from gan_lib.preprocessing.media.medium import Cutter, Decoded, Medium, PatchCutter, Rules


class LabelMapMedium(Medium):
    """Grey or palette images whose numbers are classes: 0 to one less than there are. Stored as grey PNG.

    Beside an image of the same sample it is resized and cut as the image is, so that every pixel keeps its label.
    """

    kind: Literal["label_map"]
    classes: Annotated[int, Field(ge=1, le=256)] | Annotated[list[str], Field(min_length=1, max_length=256)]
    """how many classes there are, or their names in the order of their numbers"""
    ignore: int | None = Field(default=None, ge=0, le=255)
    """number of the pixels that nobody labelled; it is no class and stays as it is"""

    flat: ClassVar[bool] = True

    @model_validator(mode="after")
    def _ignores_no_class(self) -> LabelMapMedium:
        if self.ignore is not None and self.ignore < len(self.names):
            raise ValueError(f"ignore must be {len(self.names)} or more: the smaller numbers are classes")
        return self

    @property
    def names(self) -> list[str]:
        """Of the classes; their numbers, where no names were given."""
        return [str(number) for number in range(self.classes)] if isinstance(self.classes, int) else self.classes

    def decode(self, content: bytes, rules: Rules) -> Decoded:
        numbers = decode_label_map(content, rules.limits)
        known = (numbers >= 0) & (numbers < len(self.names))
        if self.ignore is not None:
            known |= numbers == self.ignore
        if not known.all():
            raise Rejected(
                "unknown-class", f"it holds {numbers[~known].max()}, and the last class is {len(self.names) - 1}"
            )
        height, width = numbers.shape
        classes = resized_classes(numbers.astype(np.uint8), rules.resize.target(height, width))
        return Decoded(classes, height, width)

    def field(self, name: str, rules: Rules) -> PngField:
        return PngField(name, rules.patch_size)

    def cutter(self, rules: Rules) -> Cutter:
        return PatchCutter(rules.patches, rules.filters)

    def meaning(self) -> dict[str, Any]:
        return {"classes": self.names} | ({} if self.ignore is None else {"ignore": self.ignore})
