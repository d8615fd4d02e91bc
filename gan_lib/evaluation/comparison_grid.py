"""The before/after sheet: the same detail of each image, as every method sees it, side by side. For people's eyes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gan_lib.core.images import Pixels

# A detail of 128 x 96 pixels, three times as large: single pixels can be told apart, and four columns fit a screen.
DETAIL_WIDTH = 128
DETAIL_HEIGHT = 96
_ZOOM = 3
_CAPTION = 24
_GAP = 6
_INK = (20, 20, 20)
_PAPER = (255, 255, 255)


@dataclass(frozen=True)
class Strip:
    """One image's row of the sheet: a title, and the same detail by column name, uint8 RGB of equal shape each."""

    title: str
    details: Mapping[str, Pixels]


def busiest_detail(image: Pixels) -> tuple[slice, slice]:
    """Where in an RGB image of (H, W, 3) the window of DETAIL_HEIGHT x DETAIL_WIDTH with most edges lies.

    An image smaller than the window is taken whole. Windows are tried in steps of a quarter of their size.
    """
    grey = image.astype(np.float32).mean(axis=2)
    edges = np.zeros_like(grey)
    edges[1:, 1:] = np.abs(np.diff(grey, axis=0))[:, 1:] + np.abs(np.diff(grey, axis=1))[1:]
    height, width = min(DETAIL_HEIGHT, grey.shape[0]), min(DETAIL_WIDTH, grey.shape[1])
    total = np.pad(edges.cumsum(axis=0, dtype=np.float64).cumsum(axis=1), ((1, 0), (1, 0)))
    rows = np.arange(0, grey.shape[0] - height + 1, DETAIL_HEIGHT // 4)
    columns = np.arange(0, grey.shape[1] - width + 1, DETAIL_WIDTH // 4)
    tops, lefts = rows[:, None], columns[None, :]
    sums = total[tops + height, lefts + width] - total[tops, lefts + width]
    sums += total[tops, lefts] - total[tops + height, lefts]
    best_row, best_column = np.unravel_index(int(sums.argmax()), sums.shape)
    top, left = int(rows[best_row]), int(columns[best_column])
    return slice(top, top + height), slice(left, left + width)


def draw_sheet(strips: Sequence[Strip]) -> Pixels:
    """Lay ``strips`` below each other under the names of their columns; RGB uint8 (H, W, 3).

    All strips must have the same columns in the same order.

    Raises:
        ValueError: there is no strip.
    """
    if not strips:
        raise ValueError("a sheet needs at least one strip")
    columns = list(strips[0].details)
    cell_width, cell_height = DETAIL_WIDTH * _ZOOM + _GAP, DETAIL_HEIGHT * _ZOOM + _CAPTION
    sheet = Image.new("RGB", (cell_width * len(columns) + _GAP, cell_height * len(strips) + _CAPTION), _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=16)
    for column, name in enumerate(columns):
        draw.text((_GAP + column * cell_width, 2), name, fill=_INK, font=font)
    for row, strip in enumerate(strips):
        top = _CAPTION + row * cell_height
        for column, name in enumerate(columns):
            detail = Image.fromarray(strip.details[name])
            enlarged = detail.resize((detail.width * _ZOOM, detail.height * _ZOOM), Image.Resampling.NEAREST)
            sheet.paste(enlarged, (_GAP + column * cell_width, top))
        draw.text((_GAP, top + DETAIL_HEIGHT * _ZOOM + 2), strip.title, fill=_INK, font=font)
    return np.asarray(sheet)
