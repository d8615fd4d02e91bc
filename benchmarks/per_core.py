"""What one CPU core does for each step of the chain, in float32 and in bfloat16.

    python benchmarks/per_core.py --data ../shared/data [--rounds 5]

One thread; the steps take turns, and of each the median round counts. A step that does not compute in floats has one
figure. Decoding and encoding are of whole photos (481x321, BSDS500), training is of batches as the recipes have them,
scoring is of tiles of 128x128, four at a time, as :class:`gan_lib.scoring.predictor.TilePredictor` runs them. The table
is the README's; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from plain_loops import build

from gan_lib.core.images import decode, encode_jpeg, encode_png
from gan_lib.core.precision import Precision, has_bfloat16_units
from gan_lib.export.architecture import Architecture
from gan_lib.export.artifact import Artifact, Tiling
from gan_lib.export.ports import Image
from gan_lib.nets.srresnet import SRResNet
from gan_lib.scoring.predictor import TilePredictor
from gan_lib.scoring.settings import TilingSettings
from gan_lib.training.distributed.group import Group
from gan_lib.training.engine import Engine
from gan_lib.training.settings import TrainingSettings

CPU = torch.device("cpu")
SECONDS = 1.0
"""That a round of a step takes at least."""
SMALL = {"base_channels": 32, "blocks": 6}
LARGE = {"base_channels": 64, "blocks": 16}


@dataclass
class Step:
    """One line of the table."""

    name: str
    unit: str
    run: Callable[[], float]
    """Does a piece of work; returns how many units it was."""
    precision: str = ""
    rates: list[float] = field(default_factory=list)
    """Units a second, one of each round."""

    def measure(self) -> None:
        """One round."""
        done, started = 0.0, time.perf_counter()
        while (passed := time.perf_counter() - started) < SECONDS:
            done += self.run()
        self.rates.append(done / passed)

    @property
    def rate(self) -> float:
        """The median."""
        return statistics.median(self.rates)


def main() -> None:
    """Measure all steps in turn, print the table and the JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    photos = [path.read_bytes() for path in sorted((options.data / "BSDS500" / "test").glob("*.jpg"))[:20]]
    steps = [*codec_steps(photos), *net_steps("float32")]
    if has_bfloat16_units(CPU):
        steps += net_steps("bfloat16")
    for step in steps:
        step.run()  # what is made once is not timed
    for _ in range(options.rounds):
        for step in steps:
            step.measure()
    show(steps)


def codec_steps(photos: list[bytes]) -> list[Step]:
    """Decoding and encoding whole photos."""
    pixels = [decode(photo) for photo in photos]
    megapixels = sum(p.shape[0] * p.shape[1] for p in pixels) / 1e6

    def over(work: Callable[[], object]) -> float:
        work()
        return megapixels

    return [
        Step("decode a JPEG", "megapixels", lambda: over(lambda: [decode(photo) for photo in photos])),
        Step("encode as PNG", "megapixels", lambda: over(lambda: [encode_png(p) for p in pixels])),
        Step("encode as JPEG", "megapixels", lambda: over(lambda: [encode_jpeg(p, 92) for p in pixels])),
    ]


def net_steps(precision: Precision) -> list[Step]:
    """Training and scoring."""
    return [
        training("train SRResNet 32x6, crops of 96", "srresnet", SMALL, 96, 16, precision),
        training("train SRResNet 64x16, crops of 96", "srresnet", LARGE, 96, 16, precision),
        training("train DCGAN, 64x64", "dcgan", {"size": 64}, 64, 64, precision),
        scoring("enlarge by SRResNet 32x6", SMALL, precision),
        scoring("enlarge by SRResNet 64x16", LARGE, precision),
    ]


def training(name: str, recipe: str, settings: dict, side: int, batch: int, precision: Precision) -> Step:
    """Steps of a recipe's engine on one batch."""
    chosen = TrainingSettings(images=10**9, batch_size=batch, precision=precision)
    engine = Engine(build(recipe, settings, side), chosen, Group(), CPU)
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (batch, 3, side, side), np.uint8))
    rows = {"image": images.contiguous(memory_format=torch.channels_last), "position": torch.arange(batch)}

    def step() -> float:
        engine.step(dict(rows))
        return float(batch)

    return Step(name, "images", step, precision)


def scoring(name: str, size: dict[str, int], precision: Precision) -> Step:
    """Batches of tiles through the predictor; megapixels are the results'."""
    net = SRResNet(**size).eval().requires_grad_(False)
    images = {"image": Image(3)}
    artifact = Artifact(net, Architecture.of(SRResNet, **size), images, images, Tiling(4, 40))
    predictor = TilePredictor(artifact, CPU, TilingSettings(precision=precision))
    tiles = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 3, 128, 128), np.uint8))

    def step() -> float:
        predictor.run([tiles])
        return 4 * 512 * 512 / 1e6

    return Step(name, "megapixels", step, precision)


def show(steps: list[Step]) -> None:
    """The table, a line for each step with a column for each precision, and the JSON object."""
    rates: dict[str, dict[str, float]] = {}
    units = {}
    for step in steps:
        rates.setdefault(step.name, {})[step.precision] = step.rate
        units[step.name] = step.unit
    print("| a core's step | float32 | bfloat16 | |")
    print("|---|---|---|---|")
    for name, found in rates.items():
        first, second = found.get("float32", found.get("")), found.get("bfloat16")
        times = f"{second / first:.2f} x" if second and first else ""
        print(f"| {name} | {first:.2f} {units[name]}/s | {f'{second:.2f}' if second else ''} | {times} |")
    print(
        json.dumps(
            {name: {key or "any": round(rate, 3) for key, rate in found.items()} for name, found in rates.items()}
        )
    )


if __name__ == "__main__":
    main()
