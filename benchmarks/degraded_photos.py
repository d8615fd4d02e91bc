"""How near to the truth models come on photos that are noisy, compressed or blurred, and not only small.

    python benchmarks/degraded_photos.py --photos ../shared/data/Set5 --model srgan=demo-output/training/srgan \
        --model real_esrgan=demo-output/training/real_esrgan --sheet degraded.png

Each photo is reduced and then degraded in one way after the other; every model enlarges what is left. Printed is a
table of perceptual distances to the photo (less is better) by EfficientNet-Lite2, whose features no training here sees,
with bicubic enlargement beside them, and the same for PSNR on luma. A model is whatever ``score.model`` may be: of the
registry, shipped, or a folder. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gan_lib import augment
from gan_lib.core.images import decode, encode_png
from gan_lib.core.random import random_normal
from gan_lib.degradations import kernels
from gan_lib.degradations.blur import convolve
from gan_lib.degradations.canvas import Canvas
from gan_lib.degradations.degrade import degrade
from gan_lib.degradations.jpeg import jpeg
from gan_lib.degradations.settings import Degradations
from gan_lib.evaluation.comparison_grid import Row, busiest_crop, draw_grid
from gan_lib.metrics.features import lite2_features
from gan_lib.metrics.fidelity import luma_psnr
from gan_lib.metrics.perceptual import PerceptualDistance
from gan_lib.nets.srresnet import enlarge_bicubic
from gan_lib.scoring.model_sources import find_model
from gan_lib.scoring.predictor import TilePredictor
from gan_lib.scoring.settings import TilingSettings
from gan_lib.tracking import TrackingSettings

SEED = 1
NOISE = 10.0  # levels, of deviation
QUALITY = 30
BLUR = 1.2  # pixels of low resolution, of deviation
BLUR_SIDE = 13

Method = Callable[[Tensor], Tensor]
"""Levels (1, 3, h, w) -> levels (1, 3, scale h, scale w)."""
Scores = dict[str, dict[str, list[float]]]
"""Degradation -> method -> one number for each photo."""


def main() -> None:
    """Degrade, enlarge, measure, print."""
    given = arguments()
    methods, scale = methods_of(dict(model.split("=", 1) for model in given.model), given.tracking)
    distance = PerceptualDistance(lite2_features())
    distances: Scores = {}
    decibels: Scores = {}
    rows = []
    for number, path in enumerate(photos_of(given.photos)):
        high = photo_of(path, scale)
        for degradation, low in degraded(high, scale, number).items():
            results = {name: method(low) for name, method in methods.items()}
            for name, result in results.items():
                add_to(distances, degradation, name, float(distance(high, result)))
                add_to(decibels, degradation, name, float(luma_psnr(high, result, border=scale)))
            rows.append(row_of(f"{path.stem}, {degradation}", low, results, high, scale))
    print_table("Perceptual distance by EfficientNet-Lite2 (less is better)", distances)
    print_table("PSNR on luma, dB", decibels)
    if given.sheet:
        Path(given.sheet).write_bytes(encode_png(draw_grid(rows)))
    print(json.dumps({"distance": means_of(distances), "psnr": means_of(decibels)}))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photos", required=True, help="folder of photos that no model has learned from")
    parser.add_argument("--model", action="append", default=[], metavar="NAME=MODEL", required=True)
    parser.add_argument("--tracking", default=None, help="MLflow's store, for models of its registry")
    parser.add_argument("--sheet", help="PNG with the busiest part of each photo, as every method sees it")
    return parser.parse_args()


def methods_of(models: Mapping[str, str], tracking: str | None) -> tuple[dict[str, Method], int]:
    """Bicubic and the models by name, and the scale that all of them share."""
    settings = TrackingSettings(uri=tracking) if tracking else None
    artifacts = {name: find_model(uri, settings).load() for name, uri in models.items()}
    scales = {name: artifact.tiling.scale if artifact.tiling else 1 for name, artifact in artifacts.items()}
    if len(set(scales.values())) > 1:
        raise SystemExit(f"The models do not enlarge alike: {scales}.")
    scale = next(iter(scales.values()))
    methods: dict[str, Method] = {"bicubic": lambda low: to_levels(enlarge_bicubic(low, scale))}
    whole = TilingSettings(precision="float32")
    for name, artifact in artifacts.items():
        methods[name] = whole_images(TilePredictor(artifact, torch.device("cpu"), whole), scale)
    return methods, scale


def whole_images(predictor: TilePredictor, scale: int) -> Method:
    """A method that runs the model on an image at once, padded to what its net takes."""
    divisor = predictor.artifact.inputs[str(predictor.artifact.image_input)].size_divisor

    def run(low: Tensor) -> Tensor:
        height, width = low.shape[-2:]
        padded = F.pad(low.float(), (0, -width % divisor, 0, -height % divisor), mode="replicate").byte()
        return predictor.run([padded])[..., : height * scale, : width * scale]

    return run


def photos_of(folder: str) -> list[Path]:
    """The image files of a folder, by name."""
    return sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in (".png", ".jpg", ".jpeg"))


def photo_of(path: Path, scale: int) -> Tensor:
    """Levels (1, 3, H, W) whose sides the scale divides."""
    pixels = torch.from_numpy(decode(path.read_bytes()).copy()).permute(2, 0, 1).unsqueeze(0)
    height, width = (side - side % scale for side in pixels.shape[-2:])
    return pixels[..., :height, :width]


def degraded(high: Tensor, scale: int, number: int) -> dict[str, Tensor]:
    """Low resolutions, uint8, by what was done to them; ``number`` is the photo's own."""
    small = augment.downscale(high, scale).float()
    position = torch.tensor([number])
    noise = NOISE * random_normal(SEED, "noise", position, small.numel()).view_as(small)
    sigma = torch.tensor([BLUR])
    bell = kernels.generalized_gaussian(
        kernels.quadratic_form(BLUR_SIDE, sigma, sigma, torch.zeros(1)), beta=torch.ones(1)
    )
    found = {
        "only small": small,
        f"noise of {NOISE:g}": small + noise,
        f"JPEG at {QUALITY}": jpeg(Canvas.of(small), torch.tensor([QUALITY])).values,
        f"blur of {BLUR:g}": convolve(small, kernels.normalized(bell, torch.tensor([BLUR_SIDE]))),
        "all, twice over": degrade(high, scale, Degradations(), SEED, position),
    }
    return {name: to_levels(low) for name, low in found.items()}


def to_levels(values: Tensor) -> Tensor:
    """Levels as uint8."""
    return values.float().round().clamp(0, 255).byte()


def add_to(scores: Scores, degradation: str, method: str, value: float) -> None:
    """Add a photo's number to its cell."""
    scores.setdefault(degradation, {}).setdefault(method, []).append(value)


def row_of(title: str, low: Tensor, results: Mapping[str, Tensor], high: Tensor, scale: int) -> Row:
    """The busiest part of the photo: the input by repeated pixels, every method, and the photo."""
    shown = {"input": low.repeat_interleave(scale, 2).repeat_interleave(scale, 3), **results, "photo": high}
    part = busiest_crop(pixels_of(high))
    return Row(title, {name: np.ascontiguousarray(pixels_of(image)[part]) for name, image in shown.items()})


def pixels_of(image: Tensor) -> np.ndarray:
    """(1, 3, H, W) -> (H, W, 3)."""
    return image[0].permute(1, 2, 0).numpy()


def means_of(scores: Scores) -> dict[str, dict[str, float]]:
    """Over the photos."""
    return {name: {method: sum(v) / len(v) for method, v in row.items()} for name, row in scores.items()}


def print_table(title: str, scores: Scores) -> None:
    """One line for each degradation, one column for each method."""
    means = means_of(scores)
    methods = list(next(iter(means.values())))
    print(f"\n{title}\n{'':<18}" + "".join(f"{method:>16}" for method in methods))
    for degradation, row in means.items():
        print(f"{degradation:<18}" + "".join(f"{row[method]:>16.4f}" for method in methods))


if __name__ == "__main__":
    main()
