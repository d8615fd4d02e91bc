"""Sets of images against a reference: the same numbers on a cluster, on ranks and in one process; what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import set_ranks
import torch
from evaluation_nets import labelled, model_of, negative, unchanged

from gan_lib.core import config
from gan_lib.core.errors import UserError
from gan_lib.core.images import encode_png
from gan_lib.dataset.manifest import write_common_metadata
from gan_lib.dataset.schema import PngField, ScalarField, Schema
from gan_lib.evaluation.data_settings import DatasetImages, FolderImages
from gan_lib.evaluation.measuring import names, pairs
from gan_lib.evaluation.measuring import sets as measuring_sets
from gan_lib.evaluation.measuring.feature_settings import ClassifierFeatures, VGGFeatures
from gan_lib.evaluation.prediction import Outcome
from gan_lib.evaluation.settings import EvaluateSettings, GenerationSettings, UnpairedTranslationSettings
from gan_lib.evaluation.tasks import distribution
from gan_lib.metrics import classifier
from gan_lib.metrics.sets.measures import MEASURES
from gan_lib.scoring.model import Model

MODELS = {"net": "models:/net/1"}
FAKES, REALS = 90, 75


def image(number: int, side: int) -> np.ndarray:
    """Noise of a brightness that tells its class; of another height each time, so that resizing takes part."""
    random = np.random.default_rng(number)
    return random.integers(0, 100, (side + number % 3, side, 3), dtype=np.uint8) + np.uint8(number % 2 * 120)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``real``, ``fake`` and a labelled dataset."""
    folder = tmp_path_factory.mktemp("sets")
    for name, count, start in (("real", REALS, 0), ("fake", FAKES, 1000)):
        (folder / name).mkdir()
        for number in range(count):
            (folder / name / f"{number:04d}.png").write_bytes(encode_png(image(start + number, 24)))
    write_labelled(folder / "labelled")
    return folder


def write_labelled(folder: Path) -> None:
    schema = Schema(
        "labelled", (PngField("image", (None, 16, 3)), ScalarField("label", "int64"), ScalarField("age", "float64"))
    )
    rows = [schema.encode({"image": image(number, 16), "label": number % 2, "age": 0.5}) for number in range(200)]
    folder.mkdir()
    table = pa.Table.from_pylist(rows, schema.arrow_schema())
    pq.write_table(table, folder / "part-0.parquet", row_group_size=50)
    write_common_metadata(str(folder), schema, {"part-0.parquet": 4})


@pytest.fixture(scope="module")
def features(folder: Path) -> ClassifierFeatures:
    return ClassifierFeatures(
        kind="classifier", labelled=DatasetImages(kind="dataset", url=str(folder / "labelled")), steps=20, side=16
    )


@pytest.fixture(scope="module")
def alone(folder: Path, features: ClassifierFeatures) -> dict[str, float]:
    """Every measure, in this process."""
    built = features.build(str(folder / "classifiers"))
    return set_ranks.measures_of(*(set_ranks.statistics_of(built, folder / name) for name in ("real", "fake")))


@pytest.fixture(scope="module")
def translated(spark_with_nets, folder: Path, features: ClassifierFeatures) -> Outcome:
    """Every measure by the task, on Spark, of a model that changes nothing and of one that does."""
    settings = unpaired(folder, features)
    models = {"net": model_of(unchanged(), folder, "same"), "negative": model_of(negative(), folder, "negative")}
    return distribution.translate_unpaired(spark_with_nets, settings, models)


def unpaired(folder: Path, features: ClassifierFeatures) -> UnpairedTranslationSettings:
    return UnpairedTranslationSettings(
        task="unpaired_translation",
        images=str(folder / "fake"),
        models=MODELS,
        output=str(folder),
        metrics=tuple(MEASURES),
        reference=FolderImages(url=str(folder / "real")),
        features=features,
    )


def test_sparks_partitions_give_what_one_process_gives(translated: Outcome, alone: dict[str, float]):
    assert translated.figures["net"] == pytest.approx(alone, rel=1e-9, abs=1e-9)
    assert set(alone) == set(MEASURES) and len(set(alone.values())) > 4
    assert abs(translated.figures["negative"]["fid"] - alone["fid"]) > 1e-3


def test_many_states_are_merged_before_they_reach_the_driver(
    spark_with_nets,
    folder: Path,
    features: ClassifierFeatures,
    alone: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(measuring_sets, "_TASKS_A_SLOT", 3)
    monkeypatch.setattr(measuring_sets, "_MERGED_AT_ONCE", 2)
    models = {"net": model_of(unchanged(), folder, "same")}
    outcome = distribution.translate_unpaired(spark_with_nets, unpaired(folder, features), models)
    assert outcome.figures["net"] == pytest.approx(alone, rel=1e-9, abs=1e-9)
    assert outcome.summary()["samples"] == FAKES


def test_two_ranks_give_what_one_process_gives(
    folder: Path, features: ClassifierFeatures, alone: dict[str, float], tmp_path: Path
):
    arguments = [features.model_dump_json(), str(folder / "classifiers"), str(folder / "real"), str(folder / "fake")]
    command = [sys.executable, set_ranks.__file__]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    ranks = [
        subprocess.Popen([*command, str(rank), "2", str(tmp_path / "meeting"), *arguments], **pipes)
        for rank in range(2)
    ]
    try:
        said = [rank.communicate(timeout=200) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    for rank, (output, errors) in zip(ranks, said, strict=True):
        assert rank.returncode == 0, errors
        found = json.loads(output.splitlines()[-1])
        assert found.pop("own") == FAKES
        assert found == pytest.approx(alone, rel=1e-9, abs=1e-9)


def test_a_result_names_its_protocol(translated: Outcome, features: ClassifierFeatures, folder: Path):
    label = features.build(str(folder / "classifiers")).label
    assert translated.protocol["fid"] == (
        f"name FID, samples {REALS}, features {label}, resizer bilinear 16, antialiased"
    )
    assert translated.keys["kid"] == f"kid.bilinear-16-antialiased.{label.replace('@', '-')}.n-{REALS}"
    assert translated.summary()["means"]["net"]["fid"] == translated.figures["net"]["fid"]


def test_a_classifier_is_trained_once_and_then_read(
    folder: Path, features: ClassifierFeatures, alone: object, monkeypatch: pytest.MonkeyPatch
):
    def again(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(classifier, "_trained", again)
    assert features.build(str(folder / "classifiers")).classes == 2
    with pytest.raises(AssertionError, match="trained again"):
        features.model_copy(update={"steps": 21}).build(str(folder / "classifiers"))


def test_a_set_is_at_no_distance_from_itself_and_what_cannot_be_read_is_named(
    spark_with_nets, folder: Path, features: ClassifierFeatures, tmp_path: Path
):
    (tmp_path / "real").mkdir()
    for file in (folder / "fake").iterdir():
        (tmp_path / "real" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "real" / "broken.png").write_bytes(b"no image")
    reference = FolderImages(url=str(tmp_path / "real"))
    settings = unpaired(folder, features).model_copy(update={"metrics": ("fid", "coverage"), "reference": reference})
    models = {"net": model_of(unchanged(), folder, "same")}
    outcome = distribution.translate_unpaired(spark_with_nets, settings, models)
    assert outcome.figures["net"]["fid"] == pytest.approx(0, abs=1e-6)
    assert outcome.figures["net"]["coverage"] == 1
    assert list(outcome.summary()["rejected"]) == ["reference broken.png"]


def test_generated_samples_are_compared_with_a_field_of_a_dataset(
    spark_with_nets, folder: Path, features: ClassifierFeatures, make_model: Callable[..., Model]
):
    settings = GenerationSettings(
        task="generation",
        models=MODELS,
        output=str(folder),
        samples=70,
        metrics=("fid", "inception_score"),
        reference=DatasetImages(kind="dataset", url=str(folder / "labelled")),
        features=features,
    )
    outcome = distribution.generate(spark_with_nets, settings, {"net": make_model(labelled(), "labelled")})
    assert outcome.figures["net"]["fid"] > 0 and 1 <= outcome.figures["net"]["inception_score"] <= 2
    assert "samples 70," in outcome.protocol["fid"]
    few = settings.model_copy(update={"samples": 1})
    with pytest.raises(UserError, match="FID needs 2 samples of each set, not 1"):
        distribution.generate(spark_with_nets, few, {"net": make_model(labelled(), "labelled")})


def load(tmp_path: Path, *overrides: str) -> object:
    file = tmp_path / "evaluate.yaml"
    file.write_text("task: generation\nmodels: {net: models:/net/1}\noutput: out\n")
    return config.load(EvaluateSettings, file, overrides).root


def test_a_measure_that_compares_asks_for_what_it_is_compared_with(tmp_path: Path):
    with pytest.raises(config.ConfigError, match=r"fid compares with real images: set reference\.kind"):
        load(tmp_path, "metrics=[inception_score, fid]")
    assert load(tmp_path, "metrics=[inception_score]").reference is None
    with pytest.raises(config.ConfigError, match="frechet"):
        load(tmp_path, "metrics=[frechet]")


def test_features_are_chosen_by_kind_and_bad_weights_are_named(tmp_path: Path):
    chosen = load(tmp_path, "features={kind: vgg, path: weights.pth}").features
    assert isinstance(chosen, VGGFeatures)
    with pytest.raises(
        config.ConfigError, match="may be efficientnet_lite0, efficientnet_lite2, inception, vgg, alexn"
    ):
        load(tmp_path, "features={kind: resnet}")
    absent = VGGFeatures(kind="vgg", path=str(tmp_path / "absent.pth"))
    with pytest.raises(UserError, match=r"no file of weights .*absent\.pth"):
        absent.build("")
    (tmp_path / "no.pth").write_bytes(b"no weights")
    with pytest.raises(UserError, match=r"no\.pth holds no weights"):
        VGGFeatures(kind="vgg", path=str(tmp_path / "no.pth")).build("")
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="vgg16 are another net's"):
        VGGFeatures(kind="vgg", path=str(tmp_path / "other.pth")).build("")


def test_a_dataset_without_classes_trains_no_classifier(folder: Path, features: ClassifierFeatures):
    with pytest.raises(UserError, match=r"features\.label: the field age .* holds 0\.5, and no class"):
        features.model_copy(update={"label": "age"}).build("")


def test_the_names_in_a_configuration_are_those_of_the_measures():
    assert list(get_args(names.SetMetric)) == list(MEASURES)
    assert list(get_args(names.PairMetric)) == list(pairs.MEASURES)
    assert list(names.WITHOUT_REFERENCE) == [name for name, one in MEASURES.items() if not one.needs_reference]
