"""One row's values as what goes into a net from image to image: a decoder for each kind of port.

The image decides the size of the result. Masks and label maps beside it are cut into tiles with it; all else (a style
image, a label, a vector, words, random numbers) goes whole with every tile. A value that is not there or does not fit
rejects its row and no other. Nets that take no image are the business of :mod:`gan_lib.scoring.generation`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gan_lib.core.errors import Rejected, UserError
from gan_lib.core.images import ImageRejected, Limits, PixelFormat, decode, decode_label_map, size_of, stored_bytes
from gan_lib.export.description import Description
from gan_lib.export.ports import Image, LabelMap, Latent, Mask, Port
from gan_lib.export.signature import SEED, Column, column_of, input_columns
from gan_lib.scoring.generation.conditions import Condition, conditions_of
from gan_lib.scoring.generation.inputs import latents
from gan_lib.scoring.generation.rows import is_missing, whole_seed
from gan_lib.scoring.inputs.photos import Kept, PhotoReader, Seen

DEFAULT_SEED = 0

WITH_PIXELS = (Image, Mask, LabelMap)
"""Kinds of ports whose values are encoded images."""


def require_image_to_image(name: str, model: Description) -> None:
    """Check that images can be scored by a model.

    Raises:
        UserError: it takes no image, gives something else than one, or takes what no row can hold.
    """
    if model.image_input is None:
        kinds = ", ".join(port.kind for port in model.inputs.values())
        raise UserError(f"The model {name} takes {kinds} and no image to score: let jobs/generate.py make its samples.")
    output = model.outputs.get(model.image_output or "")
    if not isinstance(output, Image) or len(model.outputs) > 1:
        kinds = ", ".join(port.kind for port in model.outputs.values())
        raise UserError(f"The model {name} gives {kinds} and not one image: export the net with an image alone.")
    for what, port in (*model.inputs.items(), ("its result", output)):
        if isinstance(port, Image) and port.channels not in (1, 3):
            raise UserError(f"The model {name} has {port.channels} channels in {what}: images have 1 or 3.")
    conditions_of(_without_pixels(model.inputs))


def columns_beside(model: Description) -> list[Column]:
    """What a row may hold beside the image, in the order of the signature: inputs by their names, and a seed."""
    image = column_of(model.inputs, str(model.image_input))
    return [column for column in input_columns(model) if column.name != image]


@dataclass(frozen=True)
class InputDecoder:
    """Decodes rows for one model."""

    model: Description
    limits: Limits
    read_photo: PhotoReader
    """How the image itself is decoded; images beside it are brought to 8 bits, and lie on white."""

    @property
    def inputs(self) -> Mapping[str, Port]:
        """The model's inputs by name."""
        return self.model.inputs

    @property
    def image(self) -> str:
        """The input that the result follows pixel by pixel: an image or a label map."""
        return str(self.model.image_input)

    @cached_property
    def tiled(self) -> frozenset[str]:
        """The inputs that are as large as the image and are cut with it."""
        beside = {name for name, port in self.inputs.items() if isinstance(port, Mask | LabelMap)}
        return frozenset({self.image, *beside})

    @property
    def takes_one_size(self) -> bool:
        """Whether the image must have the size that the net was trained on, and so cannot be cut."""
        port = self.inputs[self.image]
        return isinstance(port, Image) and (port.height is not None or port.width is not None)

    @cached_property
    def _conditions(self) -> dict[str, Condition[Any]]:
        return conditions_of(_without_pixels(self.inputs))

    def decoded_bytes(self, content: bytes, beside: Mapping[str, Any]) -> int:
        """About how many bytes a row's pixels will take, by the headers of its images.

        Raises:
            ImageRejected: the image is none.
        """
        return stored_bytes(content) + sum(
            3 * _area(beside[name]) for name in beside.keys() & _with_pixels(self.inputs)
        )

    def decode(self, content: bytes, beside: Mapping[str, Any]) -> tuple[dict[str, NDArray], Kept]:
        """The row's arrays by input: ``content`` is the image, ``beside`` holds :func:`columns_beside`.

        Images are (height, width, channels) uint8, the image itself may be uint16; masks and label maps
        (height, width, 1) integers; all else is as the net sees it, without the batch's dimension. And what the net
        does not see of the image.

        Raises:
            Rejected: ``missing-input`` or ``unfit-input``, naming which; or why the image is none.
        """
        seen = self._seen(content)
        arrays = {self.image: seen.pixels}
        size = seen.pixels.shape[:2]
        for name in self.inputs:
            if name != self.image:
                arrays[name] = self._beside(name, beside)
            if name in self.tiled and arrays[name].shape[:2] != size:
                raise Rejected(
                    "unfit-input", f"{name} is {_text(arrays[name].shape)}, the image beside it {_text(size)}"
                )
        return arrays, seen.kept

    def _seen(self, content: bytes) -> Seen:
        port = self.inputs[self.image]
        if not isinstance(port, Image):
            return Seen(self._pixels(self.image, content))
        seen = self.read_photo(content, self.limits, self.model)
        _require_size(port, self.image, seen.pixels)
        return seen

    def _beside(self, name: str, values: Mapping[str, Any]) -> NDArray:
        port = self.inputs[name]
        value: Any = values.get(name)
        if isinstance(port, Latent) and is_missing(value):
            return latents(port, name, [_seed(values.get(SEED))])[0].numpy()
        if is_missing(value):
            raise Rejected("missing-input", f"there is no {name} beside the image")
        try:
            if isinstance(port, WITH_PIXELS):
                return self._pixels(name, bytes(value))
            condition = self._conditions[name]
            return condition.tensor(condition.parse(value)).numpy()
        except Rejected as error:
            if error.reason == "unfit-input":
                raise
            raise Rejected("unfit-input", f"{name}: {error}") from None

    def _pixels(self, name: str, content: bytes) -> NDArray:
        port = self.inputs[name]
        return _DECODERS[type(port)](port, name, content, self.limits)


def _image(port: Image, name: str, content: bytes, limits: Limits) -> NDArray:
    pixels = decode(content, limits, PixelFormat(port.channels))
    _require_size(port, name, pixels)
    return pixels


def _require_size(port: Image, name: str, pixels: NDArray) -> None:
    height, width = port.height or pixels.shape[0], port.width or pixels.shape[1]
    if pixels.shape[:2] != (height, width):
        raise Rejected("unfit-input", f"{name} is {_text(pixels.shape)}, the model takes {_text((height, width))}")


def _mask(port: Mask, name: str, content: bytes, limits: Limits) -> NDArray:
    return (decode(content, limits, PixelFormat(channels=1)) >= 128).view(np.uint8)


def _label_map(port: LabelMap, name: str, content: bytes, limits: Limits) -> NDArray:
    classes = decode_label_map(content, limits)
    if classes.min() < 0 or classes.max() >= port.classes:
        raise Rejected("unfit-input", f"{name} has class {classes.max()}, the model knows 0 to {port.classes - 1}")
    return (classes.astype(np.uint8) if port.classes <= 256 else classes)[:, :, None]


_DECODERS: Mapping[type[Port], Callable[[Any, str, bytes, Limits], NDArray]] = {
    Image: _image,
    Mask: _mask,
    LabelMap: _label_map,
}


def _with_pixels(inputs: Mapping[str, Port]) -> set[str]:
    return {name for name, port in inputs.items() if isinstance(port, WITH_PIXELS)}


def _without_pixels(inputs: Mapping[str, Port]) -> dict[str, Port]:
    return {name: port for name, port in inputs.items() if not isinstance(port, WITH_PIXELS)}


def _seed(value: Any) -> int:
    if is_missing(value):
        return DEFAULT_SEED
    try:
        seed = whole_seed(value)
    except (TypeError, ValueError, OverflowError):
        seed = value
    if not isinstance(seed, int) or not -(2**63) <= seed < 2**63:
        raise Rejected("unfit-input", f"{SEED} = {value!r:.80} is no whole number of 64 bits")
    return seed


def _area(content: bytes | None) -> int:
    try:
        height, width = size_of(content or b"")
    except ImageRejected:  # decoding it will say so
        return 0
    return height * width


def _text(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"
