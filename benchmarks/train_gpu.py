"""Images a second and TFLOP/s of training on one device: ours (bf16, compiled, channels_last) against the plain loop
that people write (fp32, no compile, NCHW), with the same nets and losses.

    python benchmarks/train_gpu.py                          on the GPU, full size
    python benchmarks/train_gpu.py --device cpu --quick     a smoke test: the figures mean nothing

Needs torch and this package; data is random and already on the device, so that only the step is measured. Both sides
take turns; figures are medians. TFLOP/s count the multiplications and additions that the plain step's convolutions need
(torch's flop counter), whatever kernels are chosen. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from plain_loops import LOOPS, build
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from gan_lib.recipes.protocol import Recipe
from gan_lib.training.distributed.group import Group
from gan_lib.training.engine import Engine
from gan_lib.training.settings import TrainingSettings


@dataclass(frozen=True)
class Case:
    """One recipe at the size that its paper trains, and in small for a smoke test."""

    recipe: str
    settings: dict[str, Any]
    batch_size: int
    side: int
    """of the dataset's images, in pixels"""
    quick_settings: dict[str, Any]
    quick_side: int


CASES = {
    "SRResNet": Case("srresnet", {}, 64, 96, {"base_channels": 8, "blocks": 1}, 32),
    "SRGAN": Case("srgan", {}, 64, 96, {"base_channels": 8, "blocks": 1, "discriminator_base_channels": 4}, 32),
    "DCGAN 64x64": Case("dcgan", {"size": 64}, 256, 64, {"size": 16, "base_channels": 8}, 16),
    "CycleGAN 256x256": Case("cyclegan", {"size": 256}, 4, 256, {"size": 32, "base_channels": 4, "blocks": 1}, 32),
}


def main() -> None:
    """Measure every case and print the table."""
    options = parse_arguments()
    device = torch.device(options.device)
    torch.backends.cudnn.benchmark = True  # for both sides
    rounds, seconds = (2, 0.2) if options.quick else (5, 4.0)
    results = {}
    print(f"{device_name(device)}, torch {torch.__version__}")
    print(f"{'':18}{'plain img/s':>13}{'ours img/s':>13}{'ours/plain':>12}{'plain TFLOP/s':>15}{'ours TFLOP/s':>14}")
    for name, case in CASES.items():
        result = measure(case, device, options.quick, rounds, seconds)
        results[name] = result
        print(
            f"{name:18}{result['plain']:>13,.1f}{result['ours']:>13,.1f}{result['over_plain']:>12.2f}"
            f"{result['plain_tflops']:>15.2f}{result['ours_tflops']:>14.2f}",
            flush=True,
        )
    print(json.dumps({"device": device_name(device), "torch": torch.__version__, "quick": options.quick, **results}))


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Training speed on one device, ours against the plain loop.")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny nets and a moment each: shows that it runs")
    return parser.parse_args()


def measure(case: Case, device: torch.device, quick: bool, rounds: int, seconds: float) -> dict[str, float]:
    """Images a second and TFLOP/s of both sides, measured alternately."""
    batch_size = 4 if quick else case.batch_size
    rows = random_rows(batch_size, case.quick_side if quick else case.side, device)
    plain, ours = plain_step(case, device, quick), our_step(case, device, quick, batch_size)
    flops = count_flops(lambda: plain(rows))
    for step in (plain, ours):
        for _ in range(3):  # compilation, and the choice of convolution algorithms
            step(rows)
    paces: dict[str, list[float]] = {"plain": [], "ours": []}
    for _ in range(rounds):
        paces["plain"].append(batch_size * steps_a_second(lambda: plain(rows), device, seconds))
        paces["ours"].append(batch_size * steps_a_second(lambda: ours(rows), device, seconds))
    result = {side: statistics.median(values) for side, values in paces.items()}
    result["over_plain"] = statistics.median(o / p for o, p in zip(paces["ours"], paces["plain"], strict=True))
    for side in ("plain", "ours"):
        result[f"{side}_tflops"] = result[side] / batch_size * flops / 1e12
    return result


def built(case: Case, quick: bool) -> Recipe:
    """The recipe with fresh weights, the same each time."""
    settings, side = (case.quick_settings, case.quick_side) if quick else (case.settings, case.side)
    return build(case.recipe, settings, side)


def plain_step(case: Case, device: torch.device, quick: bool) -> Callable[[dict[str, Tensor]], None]:
    """The hand-written step: fp32 as torch sets it up, no compile, NCHW."""
    recipe = built(case, quick)
    recipe.nets.to(device)
    recipe.rank_state.to(device)
    step = LOOPS[case.recipe](recipe)

    def contiguous(rows: dict[str, Tensor]) -> None:
        step({name: values.contiguous() for name, values in rows.items()})

    return contiguous


def our_step(case: Case, device: torch.device, quick: bool, batch_size: int) -> Callable[[dict[str, Tensor]], None]:
    """The trainer's step, with its averages, clipping norm and checks for bad gradients."""
    settings = TrainingSettings(
        images=10**9, batch_size=batch_size, precision="bfloat16", compile=not quick, channels_last=True
    )
    return Engine(built(case, quick), settings, Group(), device).step


def random_rows(count: int, side: int, device: torch.device) -> dict[str, Tensor]:
    """A batch as the loader yields it."""
    generator = torch.Generator().manual_seed(0)

    def images() -> Tensor:
        values = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)
        return values.to(device, memory_format=torch.channels_last)

    position = torch.arange(count, device=device)
    return {"image": images(), "domain_b_image": images(), "position": position}


def count_flops(step: Callable[[], None]) -> float:
    """Floating-point operations of one step, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        step()
    return float(counter.get_total_flops())


def steps_a_second(step: Callable[[], None], device: torch.device, seconds: float) -> float:
    """How often ``step`` runs in about ``seconds``, the device waited for at both ends."""
    wait(device)
    started, steps = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        for _ in range(5):
            step()
        steps += 5
        wait(device)
    return steps / (time.perf_counter() - started)


def wait(device: torch.device) -> None:
    """Until all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_name(device: torch.device) -> str:
    """What the figures were taken on."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU"


if __name__ == "__main__":
    main()
