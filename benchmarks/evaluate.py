"""How fast models are measured: our Spark job, and the same measures in a loop of one process on the same cores.

    python benchmarks/evaluate.py --data ../shared/data            # some minutes
    python benchmarks/evaluate.py --data ../shared/data --quick    # does everything work?

Two tasks. super_resolution: photos of mixed sizes are made small, enlarged by bicubic and by the demo's x4 net, and
compared by PSNR and SSIM on Y and RGB. fid: crops of 64x64 go through a net that keeps their size, and FID on
EfficientNet-Lite0's features compares them with as many others. The loop calls the same functions, reads one file after
the other, and gives torch both cores. Each contender runs in a process of its own, bound to two cores, in turn with the
others; medians are compared. Timed is from the settings to the numbers, the start of workers and the loading of models
included; imports, the JVM and its session are apart. Both must come to the same numbers. The last line is one JSON
object; over_torch_fidelity is null, for torch-fidelity needs torchvision, which has no CPU build that imports here.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import psutil
import torch
from contender import bind_to_cores
from scoring_work import Work, prepare

from gan_lib.core.images import Limits, decode, encode_png
from gan_lib.evaluation.data_settings import FolderImages
from gan_lib.evaluation.evaluate import evaluate
from gan_lib.evaluation.measured import BICUBIC
from gan_lib.evaluation.measuring.pairs import PairMeasures
from gan_lib.evaluation.measuring.sets import BLOCK
from gan_lib.evaluation.settings import SuperResolutionSettings, UnpairedTranslationSettings
from gan_lib.evaluation.tasks.super_resolution import resized, shrink
from gan_lib.export.architecture import Architecture
from gan_lib.export.artifact import Artifact, Tiling
from gan_lib.export.ports import Image
from gan_lib.export.receptive_field import receptive_halo
from gan_lib.metrics.features import default_features
from gan_lib.metrics.sets.measures import SetStatistics
from gan_lib.nets.srresnet import SRResNet

SCALE, SIDE = 4, 64
Figures = dict[str, float]


def main() -> None:
    """Run what the command line asks for."""
    options = _options()
    if options.contender:
        return _contend(options.contender, Work(options.folder))
    rates: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    with tempfile.TemporaryDirectory(prefix="gan_lib-evaluate-") as folder:
        work = prepare(options.data, Path(folder), options.images)
        _cut_crops(options.data, work, options.crops)
        images = {"super_resolution": options.images, "fid": options.crops}
        figures: dict[str, Figures] = {}
        for number in range(options.rounds):
            for name in CONTENDERS:
                seconds, figures[name] = _run(name, work)
                rates[name].append(images[name.partition(", ")[0]] / seconds)
                print(f"round {number + 1}: {name}: {rates[name][-1]:.2f} images/s", file=sys.stderr, flush=True)
    for task in images:
        _require_alike(figures[f"{task}, ours"], figures[f"{task}, loop"])
    _print_table(rates)
    print(json.dumps(_summary(rates)))
    return None


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(os.environ.get("GAN_LIB_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=data, help="folder that holds BSDS500")
    parser.add_argument("--quick", action="store_true", help="few images, one round")
    parser.add_argument("--images", type=int, default=200, help="photos of super_resolution")
    parser.add_argument("--crops", type=int, default=300, help="translated crops of fid, and as many real ones")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--contender", choices=list(CONTENDERS), help=argparse.SUPPRESS)  # this process is it
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.images, options.crops, options.rounds = 24, 48, 1
    return options


def _cut_crops(data: Path, work: Work, count: int) -> None:
    """``crops/fake`` and ``crops/real``, and the model that keeps their size, below ``same-size``."""
    sources = sorted((data / "BSDS500").glob("t*/*.jpg"))
    random = np.random.default_rng(1)
    for number in range(2 * count):
        pixels = decode(sources[number % len(sources)].read_bytes())
        top, left = (int(random.integers(0, length - SIDE + 1)) for length in pixels.shape[:2])
        file = work.folder / "crops" / ("fake", "real")[number % 2] / f"{number:05d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode_png(np.ascontiguousarray(pixels[top : top + SIDE, left : left + SIDE])))
    torch.manual_seed(0)
    architecture = Architecture.of(SRResNet, scale=1, base_channels=32, blocks=6)
    net = architecture.build().eval().requires_grad_(False)
    port = {"image": Image()}
    Artifact(net, architecture, port, port, Tiling(1, receptive_halo(net))).save(work.folder / "same-size")


def _session() -> object:
    from gan_lib.cluster.session import spark_session

    return spark_session("benchmark", spark__master="local[2]", spark__ui__enabled="false")


def ours_super_resolution(work: Work) -> Callable[[], Figures]:
    """The job's own function."""
    spark = _session()
    settings = SuperResolutionSettings(
        task="super_resolution",
        images=str(work.images),
        models={"net": str(work.artifact)},
        output=str(work.output),
        grid_rows=1,
        cases=0,
    )

    def run() -> Figures:
        means = evaluate(spark, settings).summary()["means"]
        return {f"{method}.{name}": value for method, mean in means.items() for name, value in mean.items()}

    return run


def loop_super_resolution(work: Work) -> Callable[[], Figures]:
    """The same in one process."""

    def run() -> Figures:
        torch.set_num_threads(2)
        artifact = Artifact.load(work.artifact)
        measures = PairMeasures(("psnr", "ssim", "psnr_rgb", "ssim_rgb"), 4, None, None)
        found: dict[str, list[float]] = {}
        for path in work.paths():
            pixels = decode(path.read_bytes(), Limits())
            height, width = (side // SCALE * SCALE for side in pixels.shape[:2])
            target = np.ascontiguousarray(pixels[:height, :width])
            low = shrink(target, SCALE)
            planes = torch.from_numpy(low).permute(2, 0, 1).unsqueeze(0)
            enlarged = np.ascontiguousarray(artifact.translate(planes)[0].permute(1, 2, 0).numpy())
            for method, prediction in ((BICUBIC, resized(low, height, width)), ("net", enlarged)):
                for name, value in measures.compare(target, prediction).items():
                    found.setdefault(f"{method}.{name}", []).append(value)
        return {name: float(np.mean(values)) for name, values in found.items()}

    return run


def ours_fid(work: Work) -> Callable[[], Figures]:
    """The job's own function."""
    spark = _session()
    settings = UnpairedTranslationSettings(
        task="unpaired_translation",
        images=str(work.folder / "crops" / "fake"),
        models={"net": str(work.folder / "same-size")},
        output=str(work.output),
        grid_rows=1,
        metrics=("fid",),
        reference=FolderImages(url=str(work.folder / "crops" / "real")),
    )
    return lambda: dict(evaluate(spark, settings).figures["net"])


def loop_fid(work: Work) -> Callable[[], Figures]:
    """The same in one process."""

    def run() -> Figures:
        torch.set_num_threads(2)
        artifact = Artifact.load(work.folder / "same-size")
        features = default_features()
        real, fake = SetStatistics(["fid"], features), SetStatistics(["fid"], features)
        changes: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
            "real": lambda images: images,
            "fake": artifact.translate,
        }
        for statistics_of_set, name in ((real, "real"), (fake, "fake")):
            files = sorted((work.folder / "crops" / name).iterdir())
            for start in range(0, len(files), BLOCK):
                pixels = (torch.tensor(decode(file.read_bytes())) for file in files[start : start + BLOCK])
                images = [changes[name](one.permute(2, 0, 1).unsqueeze(0))[0] for one in pixels]
                statistics_of_set.update(images, range(start, start + len(images)))
        return {"fid": fake.measure("fid", real)}

    return run


CONTENDERS: Mapping[str, Callable[[Work], Callable[[], Figures]]] = {
    "super_resolution, ours": ours_super_resolution,
    "super_resolution, loop": loop_super_resolution,
    "fid, ours": ours_fid,
    "fid, loop": loop_fid,
}


def _contend(name: str, work: Work) -> None:
    """In the contender's process: get ready, run, and print how long it took and what came out."""
    os.chdir(work.folder)
    run = CONTENDERS[name](work)
    begin = time.time()
    figures = run()
    seconds = time.time() - begin
    start = begin - psutil.Process().create_time()
    print(json.dumps({"start": start, "seconds": seconds, "figures": figures}), flush=True)


def _run(name: str, work: Work) -> tuple[float, Figures]:
    """Seconds and figures of a contender in its own process.

    Raises:
        SystemExit: it failed.
    """
    command = [sys.executable, __file__, "--contender", name, "--folder", str(work.folder)]
    environment = {**os.environ, "PYSPARK_PYTHON": sys.executable}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, preexec_fn=bind_to_cores)
    found = re.search(r'\{"start": .*\}', done.stdout)
    if found is None:
        sys.exit(f"error: {name} failed: {done.stderr[-2000:]}")
    measured = json.loads(found.group())
    return float(measured["seconds"]), measured["figures"]


def _require_alike(ours: Figures, loop: Figures) -> None:
    unlike = [name for name in loop if not np.isclose(ours[name], loop[name], rtol=1e-3)]
    if unlike:  # tiles are cut where the loop takes the whole image, so last bits of a level may differ
        sys.exit(f"error: the loop and ours measure different numbers: {[(n, ours[n], loop[n]) for n in unlike]}")


def _print_table(rates: Mapping[str, list[float]]) -> None:
    print(f"{'contender':28} {'images/s':>10}   all rounds")
    for name, found in rates.items():
        print(f"{name:28} {statistics.median(found):10.2f}   {', '.join(f'{rate:.2f}' for rate in found)}")


def _summary(rates: Mapping[str, list[float]]) -> dict[str, object]:
    """Ours over the loop; the smaller of both tasks first."""
    medians = {name: statistics.median(found) for name, found in rates.items()}
    over = {task: medians[f"{task}, ours"] / medians[f"{task}, loop"] for task in ("super_resolution", "fid")}
    return {
        "over_single_process": round(min(over.values()), 3),
        "over_single_process_by_task": {task: round(value, 3) for task, value in over.items()},
        "over_torch_fidelity": None,
        "why_not_torch_fidelity": "torch-fidelity needs torchvision, which has no CPU build that imports here",
        "images_per_second": {name: round(value, 2) for name, value in medians.items()},
    }


if __name__ == "__main__":
    main()
