"""What bfloat16 costs in quality: the demo's first net trained in it and in float32, on the same images in one order.

    python benchmarks/precision.py [--images 4800] [--data ../shared/data]

Both trainings see so many 96x96 patches of the photos in BSDS500/train, in batches of 16. The averaged nets are then
measured alike, in float32, on patches of BSDS500/test: PSNR on luma, in dB. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from plain_loops import build
from torch import Tensor

from gan_lib.core.precision import Precision
from gan_lib.training.data_source import TensorDataSource
from gan_lib.training.distributed.group import Group
from gan_lib.training.engine import Engine
from gan_lib.training.settings import TrainingSettings

SIDE, BATCH = 96, 16
NET = {"base_channels": 32, "blocks": 6}
CPU = torch.device("cpu")


def main() -> None:
    """Train twice, measure, and print."""
    parser = argparse.ArgumentParser(description="PSNR of a net trained in bfloat16 against one trained in float32.")
    parser.add_argument("--images", type=int, default=4_800, help="seen by each training")
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    options = parser.parse_args()
    rows = patches(options.data / "BSDS500" / "train", each=8)
    held_out = patches(options.data / "BSDS500" / "test", each=1)
    found = {}
    print(f"{options.images} images of {len(rows)} patches, {len(held_out)} held out")
    print(f"{'precision':12}{'PSNR dB':>10}{'images/s':>10}")
    for precision in ("float32", "bfloat16"):
        found[precision], pace = trained(precision, rows, held_out, options.images)
        print(f"{precision:12}{found[precision]:>10.3f}{pace:>10.1f}", flush=True)
    apart = found["bfloat16"] - found["float32"]
    print(json.dumps({f"psnr_{name}": round(psnr, 4) for name, psnr in found.items()} | {"apart_db": round(apart, 4)}))


def trained(precision: Precision, rows: Tensor, held_out: Tensor, images: int) -> tuple[float, float]:
    """PSNR of the averaged net after ``images`` images, and images a second of its training."""
    settings = TrainingSettings(images=images, batch_size=BATCH, precision=precision, ema_half_life=1_600)
    engine = Engine(build("srresnet", NET, SIDE), settings, Group(), CPU)
    batches = TensorDataSource({"image": rows}, BATCH, seed=0).forever()
    started = time.perf_counter()
    while engine.progress.images < images:
        engine.step(next(batches))
    pace = images / (time.perf_counter() - started)
    engine.dtype = torch.float32  # both are measured alike
    (metric,) = engine.recipe.metrics().values()
    with engine.averaged():
        for part in held_out.split(BATCH):
            metric.update({"image": part})
    return float(metric.compute()), pace


def patches(folder: Path, each: int) -> Tensor:
    """``each`` patches of every photo in ``folder``: uint8 (N, 3, SIDE, SIDE)."""
    places, cut = np.random.default_rng(0), []
    for path in sorted(folder.glob("*.jpg")):
        photo = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        for _ in range(each):
            top, left = (int(places.integers(0, side - SIDE + 1)) for side in photo.shape[:2])
            cut.append(photo[top : top + SIDE, left : left + SIDE])
    return torch.from_numpy(np.stack(cut)).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


if __name__ == "__main__":
    main()
