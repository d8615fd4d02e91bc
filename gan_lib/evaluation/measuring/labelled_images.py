"""The labelled images that a small classifier learns from, read on the driver."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gan_lib.core import storage
from gan_lib.core.errors import UserError
from gan_lib.dataset.catalog import open_dataset
from gan_lib.evaluation.data_settings import DatasetImages
from gan_lib.metrics.features import Resize


def read_labelled(source: DatasetImages, label: str, rows: int, side: int | None) -> tuple[Tensor, Tensor]:
    """The first ``rows`` images, levels of 0 to 255 (N, 3, H, W), and their classes (N,).

    Raises:
        UserError: a label is no whole number from 0 on, or an image is none.
        DatasetError: there is no such dataset, split, version or field.
    """
    dataset = open_dataset(storage.absolute(source.url), source.split, source.version).select(source.image, label)
    images: list[Tensor] = []
    labels: list[int] = []
    resize: Resize | None = None
    for row in islice(dataset.read_rows(), rows):
        image = _as_rgb(row[source.image], source)
        height, width = image.shape[1:] if side is None else (side, side)
        resize = resize or Resize(height, width, "bilinear", antialias=True)
        images.append(resize(image.unsqueeze(0)).round().to(torch.uint8))
        labels.append(_class_of(row[label], label, source))
    if not images:
        raise UserError(f"features.labelled: {source.url} has no rows to train a classifier on.")
    return torch.cat(images), torch.tensor(labels)


def _as_rgb(value: Any, source: DatasetImages) -> Tensor:
    pixels = np.asarray(value)
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (1,), (3,)):
        raise UserError(
            f"features.labelled: the field {source.image} of {source.url} holds {pixels.dtype} of shape {pixels.shape} "
            "and no 8-bit images: name the field that does with features.labelled.image."
        )
    planes = torch.tensor(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1)
    return planes.expand(3, -1, -1)


def _class_of(value: Any, label: str, source: DatasetImages) -> int:
    if not np.issubdtype(np.asarray(value).dtype, np.integer) or np.ndim(value) or int(value) < 0:
        raise UserError(
            f"features.label: the field {label} of {source.url} holds {value!s:.50}, and no class from 0 on: name the "
            "field that does."
        )
    return int(value)
