"""The comparison grid: the same crop of each sample, as every method sees it, side by side. For people's eyes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gan_lib.core.images import Pixels

# A crop of 128 x 96 pixels, three times as large: single pixels can be told apart, and four columns fit a screen.
CROP_WIDTH = 128
CROP_HEIGHT = 96
_ZOOM = 3
CELL_WIDTH, CELL_HEIGHT = CROP_WIDTH * _ZOOM, CROP_HEIGHT * _ZOOM
_CAPTION = 24
_GAP = 6
_INK = (20, 20, 20)
_PAPER = (255, 255, 255)


@dataclass(frozen=True)
class Row:
    """One sample's row of the grid: a title, and a crop by column name, uint8 RGB each."""

    title: str
    crops: Mapping[str, Pixels]


def busiest_crop(image: Pixels) -> tuple[slice, slice]:
    """Where in an RGB image of (H, W, 3) the CROP_HEIGHT x CROP_WIDTH pixels with most edges lie.

    An image smaller than that is taken whole. Positions are tried in steps of a quarter of a crop.
    """
    grey = image.astype(np.float32).mean(axis=2)
    edges = np.zeros_like(grey)
    edges[1:, 1:] = np.abs(np.diff(grey, axis=0))[:, 1:] + np.abs(np.diff(grey, axis=1))[1:]
    height, width = min(CROP_HEIGHT, grey.shape[0]), min(CROP_WIDTH, grey.shape[1])
    total = np.pad(edges.cumsum(axis=0, dtype=np.float64).cumsum(axis=1), ((1, 0), (1, 0)))
    rows = np.arange(0, grey.shape[0] - height + 1, CROP_HEIGHT // 4)
    columns = np.arange(0, grey.shape[1] - width + 1, CROP_WIDTH // 4)
    tops, lefts = rows[:, None], columns[None, :]
    sums = total[tops + height, lefts + width] - total[tops, lefts + width]
    sums += total[tops, lefts] - total[tops + height, lefts]
    best_row, best_column = np.unravel_index(int(sums.argmax()), sums.shape)
    top, left = int(rows[best_row]), int(columns[best_column])
    return slice(top, top + height), slice(left, left + width)


def fit_cell(image: Pixels) -> Pixels:
    """An RGB image made small enough for a cell of the grid; one that fits already stays as it is."""
    factor = min(CELL_HEIGHT / image.shape[0], CELL_WIDTH / image.shape[1])
    if factor >= 1:
        return image
    size = (max(1, int(image.shape[1] * factor)), max(1, int(image.shape[0] * factor)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def draw_grid(rows: Sequence[Row]) -> Pixels:
    """Lay ``rows`` below each other under the names of their columns; RGB uint8 (H, W, 3).

    All rows must have the same columns in the same order. Small crops are enlarged by the largest whole number that
    fits, by repeating pixels.

    Raises:
        ValueError: there is no row.
    """
    if not rows:
        raise ValueError("a comparison grid needs at least one row")
    columns = list(rows[0].crops)
    width, height = CELL_WIDTH + _GAP, CELL_HEIGHT + _CAPTION
    grid = Image.new("RGB", (width * len(columns) + _GAP, height * len(rows) + _CAPTION), _PAPER)
    draw = ImageDraw.Draw(grid)
    font = ImageFont.load_default(size=16)
    for column, name in enumerate(columns):
        draw.text((_GAP + column * width, 2), name, fill=_INK, font=font)
    for number, row in enumerate(rows):
        top = _CAPTION + number * height
        for column, name in enumerate(columns):
            grid.paste(_enlarged(fit_cell(row.crops[name])), (_GAP + column * width, top))
        draw.text((_GAP, top + CELL_HEIGHT + 2), row.title, fill=_INK, font=font)
    return np.asarray(grid)


def _enlarged(crop: Pixels) -> Image.Image:
    zoom = min(CELL_HEIGHT // crop.shape[0], CELL_WIDTH // crop.shape[1])
    return Image.fromarray(crop).resize((crop.shape[1] * zoom, crop.shape[0] * zoom), Image.Resampling.NEAREST)
