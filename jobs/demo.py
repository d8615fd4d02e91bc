"""The whole main job on this machine: photos -> dataset -> SRResNet -> SRGAN -> figures -> champion -> enlarged photos.

SRResNet learns from nothing; the GAN is the one that the package ships, and goes on, on the photos given.

Each step is the spark-submit command that a user would type; this script only prepares two folders of photos, runs the
steps one after the other and reads the figures at the end. It exits with 5 when the trained net is not clearly better
than bicubic.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

OUTPUT = Path("demo-output")
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"}
SCALE = 4
LEAST_GAIN_DB = 0.5
NOT_BETTER = 5  # exit code
REFUSED = 5  # jobs/promote.py's: what a demo before this one trained is no worse, and stays

# What scikit-image and scikit-learn bring in their wheels. motorcycle_right is missing: it duplicates motorcycle_left.
TRAINING_PHOTOS = (
    "skimage/astronaut.png",
    "skimage/brick.png",
    "skimage/camera.png",
    "skimage/coins.png",
    "skimage/grass.png",
    "skimage/gravel.png",
    "skimage/hubble_deep_field.jpg",
    "skimage/ihc.png",
    "skimage/motorcycle_left.png",
    "skimage/retina.jpg",
    "skimage/rocket.jpg",
)
HELD_OUT_PHOTOS = ("skimage/chelsea.png", "skimage/coffee.png", "sklearn/china.jpg", "sklearn/flower.jpg")


def main() -> None:
    """Run all steps; see the module's docstring."""
    options = parse_arguments()
    started = time.monotonic()
    shutil.rmtree(OUTPUT, ignore_errors=True)
    gather_images(options.images, options.held_out)
    pipeline = f"--set tracking.pipeline=demo-{time.strftime('%Y%m%d-%H%M%S')}"
    step("preprocess", "conf/preprocess/demo.yaml", pipeline)
    step("train", "conf/train/srresnet.yaml", pipeline)
    step("train", "conf/train/srgan.yaml", pipeline)
    step("evaluate", "conf/evaluate/demo.yaml", pipeline)
    step("promote", "conf/promote/demo.yaml", pipeline, fine=(0, REFUSED))
    step("score", "conf/score/demo.yaml", pipeline)
    sys.exit(report(time.monotonic() - started))


def parse_arguments() -> argparse.Namespace:
    """The command line: nothing for the bundled photos, or folders of one's own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=Path, metavar="DIR", help="train on these instead of the bundled photos")
    parser.add_argument(
        "--held-out",
        type=Path,
        metavar="DIR",
        help="photos to measure on; without it every fifth of --images is held out",
    )
    options = parser.parse_args()
    for folder in filter(None, (options.images, options.held_out)):
        if not folder.is_dir():
            parser.error(f"there is no folder {folder}")
    return options


def gather_images(images: Path | None, held_out: Path | None) -> None:
    """Fill demo-output/{train,held-out,small}: small has the photos that are held out, at a quarter of their size."""
    if images is None:
        train, kept_back = bundled_photos(TRAINING_PHOTOS), bundled_photos(HELD_OUT_PHOTOS)
    else:
        found = images_below(images)
        kept_back = [] if held_out else found[::5]
        train = [path for path in found if path not in set(kept_back)]
    if held_out:
        kept_back = images_below(held_out)
    link_all(train, OUTPUT / "train")
    link_all(kept_back, OUTPUT / "held-out")
    (OUTPUT / "small").mkdir()
    for path in kept_back:
        photo = Image.open(path).convert("RGB")
        size = (max(photo.width // SCALE, 1), max(photo.height // SCALE, 1))
        photo.resize(size, Image.Resampling.BICUBIC).save(OUTPUT / "small" / f"{path.stem}.png")


def bundled_photos(names: Sequence[str]) -> list[Path]:
    """The paths of ``package/file`` names within the wheels that bring them."""
    import skimage
    import sklearn

    folders = {
        "skimage": Path(skimage.__file__).parent / "data",
        "sklearn": Path(sklearn.__file__).parent / "datasets" / "images",
    }
    return [folders[package] / file for package, file in (name.split("/") for name in names)]


def images_below(folder: Path) -> list[Path]:
    """Every image file below ``folder``, in order of its path; stops the demo when there are too few."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if len(found) < 2:
        sys.exit(f"error: {folder} holds {len(found)} images; the demo needs some to train on and some to measure on.")
    return found


def link_all(paths: Sequence[Path], folder: Path) -> None:
    """Put a link to each of ``paths`` into ``folder``; of equal names the later get a number."""
    folder.mkdir(parents=True)
    for number, path in enumerate(paths):
        link = folder / path.name
        if link.exists():
            link = folder / f"{path.stem}-{number}{path.suffix}"
        link.symlink_to(path.resolve())


def step(job: str, config: str, *flags: str, fine: Sequence[int] = (0,)) -> None:
    """Run one job as a user would type it, and stop with a sentence when its exit code is none of ``fine``."""
    command = (
        f"spark-submit --properties-file conf/cluster/local.conf jobs/{job}.py --config {config} {' '.join(flags)}"
    )
    print(f"\n$ {command}", flush=True)
    started = time.monotonic()
    finished = subprocess.run(shlex.split(command), env={**os.environ, "PYTHONUNBUFFERED": "1"})
    if finished.returncode not in fine:
        sys.exit(f"error: jobs/{job}.py ended with {finished.returncode}; its last lines above say why.")
    print(f"({job}: {time.monotonic() - started:.0f} s)", flush=True)


def report(seconds: float) -> int:
    """Print the figures and what to look at next; return the exit code."""
    summary = json.loads((OUTPUT / "evaluation" / "summary.json").read_text())
    means = summary["means"]
    print(f"\nOn {summary['samples']} photos that training never saw (Y channel, 4 pixels cropped):\n")
    print(f"{'':12}{'PSNR dB':>10}{'SSIM':>10}{'perceptual distance':>22}")
    for name, mean in means.items():
        print(f"{name:12}{mean['psnr']:>10.2f}{mean['ssim']:>10.4f}{mean['perceptual_distance']:>22.4f}")
    gain = means["srresnet"]["psnr"] - means["bicubic"]["psnr"]
    print(f"\nThe pixel-trained net is {gain:+.2f} dB against bicubic. All steps took {seconds:.0f} s.")
    print(f"Look at:        {OUTPUT / 'evaluation' / 'report.html'}")
    print(f"Enlarged files: {OUTPUT / 'enlarged'}")
    print("Every run:      make mlflow   (then open http://127.0.0.1:5000)")
    if gain < LEAST_GAIN_DB:
        print(f"error: at least {LEAST_GAIN_DB} dB were expected.", file=sys.stderr)
        return NOT_BETTER
    return 0


if __name__ == "__main__":
    main()
