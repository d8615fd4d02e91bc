"""Turns what a training has exported into a net that the package ships, and measures what its card says of it.

python benchmarks/ship_enlarger.py /trainings/pixels --as enlarger-pixels --data "T91 and BSDS500" \
    --set5 ../shared/data/Set5 --tracking sqlite:////trainings/mlflow.db

The folder ``gan_lib/shipped/NAME`` then holds the averaged weights, their signature, and ``card.json``: data, images
seen and settings as the training's run has them, and figures measured here in float32, beside those of bicubic. Each
checkpoint that the training kept is measured too: the curve over images seen.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from gan_lib.core import storage
from gan_lib.core.errors import UserError, run_job
from gan_lib.core.images import Limits, PixelFormat, decode, encode_png
from gan_lib.evaluation.prediction import predict
from gan_lib.evaluation.tasks.super_resolution import resized, shrink
from gan_lib.export.artifact import Artifact
from gan_lib.metrics.features import lite2_features
from gan_lib.metrics.fidelity import psnr, ssim
from gan_lib.metrics.perceptual import PerceptualDistance
from gan_lib.scoring.model_sources import FoundModel, find_model
from gan_lib.scoring.predictor import TilePredictor
from gan_lib.scoring.settings import TilingSettings
from gan_lib.shipped.nets import CARD
from gan_lib.tracking import TrackingSettings, store_of
from gan_lib.training.checkpoint import averaged_weights

SHIPPED = Path(__file__).parent.parent / "gan_lib" / "shipped"
MOST_BYTES = 2_000_000
"""Of a net's folder: the wheel is downloaded by everyone."""
LICENCE = "Apache-2.0"
_CHECKPOINT = re.compile(r"images-(\d+)\.json")
_TOLD = ("recipe.", "training.")
"""Parameters of a run that say how its net was made; the others say where."""

Pixels = np.ndarray


def main() -> None:
    """Measure, then write the folder, then say what the card says."""
    parsed = arguments()
    found = find_model(parsed.training)
    folder = parsed.into / parsed.name
    size = sum(map(len, found.files.values()))
    if size > MOST_BYTES:
        raise UserError(f"The net takes {size} bytes, and {MOST_BYTES} are what a shipped one may take.")
    run = run_of(parsed.training, TrackingSettings(uri=parsed.tracking))
    card = {
        "name": parsed.name,
        "scale": found.description.tiling.scale if found.description.tiling else 1,
        "parameters": sum(values.numel() for values in found.load().net.parameters()),
        "licence": LICENCE,
        "data": {"sources": parsed.data, **data_of(run)},
        "images_seen": images_seen(parsed.training),
        "settings": settings_of(run),
        "remarks": parsed.remarks,
        "figures": {"Set5": figures(found.load(), Path(parsed.set5))},
        "curve": {"Set5": curve(parsed.training, found, Path(parsed.set5))},
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in found.files.items():
        (folder / name).write_bytes(content)
    (folder / CARD).write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps(card, indent=1, ensure_ascii=False))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("training", help="checkpoint folder of a training that has exported its net")
    parser.add_argument("--as", dest="name", required=True, help="name of the shipped net")
    parser.add_argument("--data", required=True, help="names of the collections that it learned from")
    parser.add_argument("--remarks", default="", help="what the settings do not tell of how it was trained")
    parser.add_argument("--set5", default="../shared/data/Set5", help="folder of the five images")
    parser.add_argument("--into", type=Path, default=SHIPPED, help="the folder of shipped nets")
    parser.add_argument("--tracking", help="MLflow's store that the training was written down in")
    return parser.parse_args()


def run_of(training: str, settings: TrackingSettings) -> Any:
    """The MLflow run that a training's folder remembers."""
    run_id = json.loads(storage.read_bytes(storage.join(training, "mlflow_run.json")))["run_id"]
    store = store_of(settings)
    with store.explained(f"reading the run {run_id}"):
        return store.client().get_run(run_id)


def settings_of(run: Any) -> dict[str, str]:
    """How the net was trained, by dotted key."""
    told = {key: value for key, value in sorted(run.data.params.items()) if key.startswith(_TOLD)}
    return {key: value.rstrip("/").rpartition("/")[2] for key, value in told.items()}  # of a folder, only its name


def data_of(run: Any) -> dict[str, Any]:
    """What the run says of the datasets that it read."""
    inputs = run.inputs.dataset_inputs if run.inputs is not None else []
    return {"fingerprints": {one.dataset.name: one.dataset.digest for one in inputs}}


def images_seen(training: str) -> int:
    """Of the newest checkpoint, from which the export was made."""
    names = storage.list_names(training)
    return max(int(found[1]) for name in names if (found := _CHECKPOINT.fullmatch(name)))


def curve(training: str, found: FoundModel, folder: Path) -> dict[str, float]:
    """Images seen -> PSNR (dB, Y) of the averaged weights then, for each checkpoint that was kept."""
    artifact, points = found.load(), {}
    cases = cases_of(folder, artifact.scale)
    for name in sorted(storage.list_names(training)):
        if checkpoint := _CHECKPOINT.fullmatch(name):
            weights = averaged_weights(storage.join(training, name.replace(".json", ".pt")))
            own = {key.removeprefix("generator."): v for key, v in weights.items() if key.startswith("generator.")}
            artifact.net.load_state_dict(own)
            enlarge = enlarger(artifact)
            values = [psnr(target, enlarge(low), artifact.scale) for target, low in cases]
            points[str(int(checkpoint[1]))] = round(fmean(values), 3)
    return points


def figures(artifact: Artifact, folder: Path) -> dict[str, Any]:
    """Means over the folder's images, each made small by MATLAB's bicubic and enlarged by bicubic and by the net."""
    distance, scale, enlarge = PerceptualDistance(lite2_features()), artifact.scale, enlarger(artifact)
    measured: dict[str, list[Mapping[str, float]]] = {"bicubic": [], "net": []}
    for target, low in cases_of(folder, scale):
        results = {"bicubic": resized(low, *target.shape[:2]), "net": enlarge(low)}
        for method, result in results.items():
            measured[method].append(compared(target, result, scale, distance))
    protocol = (
        f"means over {len(measured['net'])} images; x{scale} from MATLAB's bicubic imresize; {scale} pixels of border "
        "left out; psnr (dB) and ssim on Y of BT.601; perceptual_distance by features of EfficientNet-Lite2"
    )
    return {"protocol": protocol, **{method: means(ones) for method, ones in measured.items()}}


def enlarger(artifact: Artifact) -> Callable[[Pixels], Pixels]:
    """What enlarges (H, W, 3) levels in float32."""
    predictor = TilePredictor(artifact, torch.device("cpu"), TilingSettings(precision="float32"))
    return lambda low: predict(predictor, encode_png(low), Limits())


def cases_of(folder: Path, scale: int) -> list[tuple[Pixels, Pixels]]:
    """Each image of the folder, and what is left of it when it is made small."""
    cases = []
    for path in sorted(folder.iterdir()):
        whole = decode(path.read_bytes(), Limits(), PixelFormat(3))
        target = np.ascontiguousarray(whole[: whole.shape[0] // scale * scale, : whole.shape[1] // scale * scale])
        cases.append((target, shrink(target, scale)))
    return cases


def means(ones: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each figure."""
    return {name: round(fmean(one[name] for one in ones), 4) for name in ones[0]}


def compared(target: Pixels, result: Pixels, border: int, distance: PerceptualDistance) -> dict[str, float]:
    """One image's figures."""
    cropped = (np.array(one[border:-border, border:-border]) for one in (target, result))
    inner = [torch.from_numpy(one).permute(2, 0, 1).unsqueeze(0) for one in cropped]
    return {
        "psnr": psnr(target, result, border),
        "ssim": ssim(target, result, border),
        "perceptual_distance": distance(*inner).item(),
    }


if __name__ == "__main__":
    run_job(main)
