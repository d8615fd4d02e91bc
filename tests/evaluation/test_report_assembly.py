"""From an outcome to what its report says, and from there to its file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_contents import flat_png

from gan_lib.evaluation.measured import Measured
from gan_lib.evaluation.prediction import Outcome
from gan_lib.evaluation.report import PAGE, write_page
from gan_lib.evaluation.report.assembly import content_of
from gan_lib.evaluation.report.content import MOST_IMAGE_BYTES
from gan_lib.evaluation.report.facts import facts_of
from gan_lib.evaluation.report.figures import RESAMPLES, Figure, figure_of
from gan_lib.evaluation.settings import AnyTask, EvaluateSettings

COLUMNS = ("bicubic", "net", "target")


def settings(task: str, **keys: Any) -> AnyTask:
    chosen = {"task": task, "models": {"net": "models:/net@champion"}, "output": "out", **keys}
    return EvaluateSettings.model_validate(chosen).root


SUPER_RESOLUTION = settings("super_resolution", images="held/out")
GENERATION = settings("generation")


def sample(name: str, psnr: float, crop: bytes | None = None) -> list[Measured]:
    """One sample's rows; bicubic is 2 dB worse than the net."""
    figures: Mapping[str, Mapping[str, float]] = {
        "bicubic": {"ssim": 0.5, "psnr": psnr - 2},
        "net": {"ssim": 0.75, "psnr": psnr},
        "target": {},
    }
    return [Measured(name, method, figures[method], crop=crop) for method in COLUMNS]


PROTOCOL = {"psnr": "name PSNR, crop 4", "ssim": "name SSIM, crop 4"}


def test_first_samples_best_and_worst_are_shown_once_each_and_say_what_they_are():
    crop = flat_png(9)
    rows = [*sample("a", 30, crop), *sample("b", 40, crop), *sample("c", 20), *sample("d", 50), *sample("e", 35)]
    outcome = Outcome(
        rows, COLUMNS, PROTOCOL, best=[*sample("d", 50, crop), *sample("b", 40, crop)], worst=sample("c", 20, crop)
    )
    content = content_of(outcome, SUPER_RESOLUTION)
    assert [(shown.name, shown.remark) for shown in content.shown] == [
        ("a", ""),
        ("b", "among the best by psnr"),
        ("d", "among the best by psnr"),
        ("c", "among the worst by psnr"),
    ]
    assert all([one.method for one in shown.crops] == list(COLUMNS) for shown in content.shown)
    assert list(content.shown[0].crops[1].figures.items()) == [("psnr", 30), ("ssim", 0.75)]
    assert content.extremes is not None and content.extremes.metric == "psnr"
    assert (content.extremes.best, content.extremes.worst) == ([("d", 50), ("b", 40)], [("c", 20)])
    assert content.samples == 5 and content.metrics == ["psnr", "ssim"] and content.pairs


def test_means_leave_out_what_was_rejected_and_take_in_what_is_of_all_samples():
    rows = [*sample("a", 30), *sample("b", math.inf), *sample("c", 10), Measured("c", "net", reason="failed: x")]
    outcome = Outcome(rows, COLUMNS, PROTOCOL, figures={"net": {"fid": 7.5}})
    content = content_of(outcome, SUPER_RESOLUTION)
    assert content.figures["net"]["psnr"].mean == 65  # the infinite one counts as 100
    assert content.figures["net"]["fid"] == Figure(7.5)
    assert content.metrics == ["psnr", "ssim", "fid"]
    assert content.rejected == {"c": "failed: x"} and content.samples == 2


def test_methods_are_compared_sample_by_sample_with_the_first():
    rows = [*sample("a", 30), *sample("b", 40), *sample("c", 20)]
    content = content_of(Outcome(rows, COLUMNS, PROTOCOL), SUPER_RESOLUTION)
    assert content.base == "bicubic" and set(content.differences) == {"net"}
    assert content.differences["net"]["psnr"] == Figure(2, 0, (2, 2))  # on every sample, however much they scatter
    alone = content_of(Outcome([row for row in rows if row.method == "net"], ["net"]), SUPER_RESOLUTION)
    assert (alone.base, alone.differences) == ("", {})


def test_a_sample_that_a_column_has_no_crop_of_is_not_shown():
    rows = [Measured("a", "bicubic", crop=flat_png(1)), Measured("a", "net", reason="failed: x")]
    assert content_of(Outcome(rows, ("bicubic", "net")), SUPER_RESOLUTION).shown == []


def test_generated_samples_stand_alone():
    rows = [Measured(f"seed {seed:08d}", "net", crop=flat_png(seed)) for seed in range(3)]
    content = content_of(Outcome(rows, ["net"]), GENERATION)
    assert not content.pairs and content.extremes is None and len(content.shown) == 3
    assert content.title == "Generation" and ("samples", "64") in content.facts


def test_a_report_takes_no_more_than_its_bound(tmp_path: Path):
    noise = np.random.default_rng(0).bytes(MOST_IMAGE_BYTES // 40)
    rows = [Measured(f"{number:03d}", "net", crop=flat_png(1) + noise) for number in range(50)]
    content = content_of(Outcome(rows, ["net"]), GENERATION)
    assert len(content.shown) == 39 and content.beyond == 11
    page = write_page(str(tmp_path), Outcome(rows, ["net"]), GENERATION)
    assert (tmp_path / PAGE).read_text(encoding="utf-8") == page
    assert MOST_IMAGE_BYTES < len(page) < MOST_IMAGE_BYTES * 1.4


def test_facts_name_versions_and_data_and_no_password():
    models = {"net": "models:/net@champion", "old": "models:/o/2"}
    chosen = settings("super_resolution", images="s3://user:secret@store/held", models=models)
    facts = facts_of(chosen, {"net": "models:/net/7", "old": "models:/o/2"})
    assert facts[:2] == [("model net", "models:/net/7, which was models:/net@champion"), ("model old", "models:/o/2")]
    assert ("border", "4") in facts and ("images", "s3://store/held") in facts
    pairs = settings("paired_translation", pairs={"kind": "dataset", "url": "data", "version": 3})
    assert {("pairs url", "data"), ("pairs split", "test"), ("pairs version", "3")} <= set(facts_of(pairs, {}))


def test_an_interval_holds_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        found = figure_of(rng.normal(5, 2, 60))
        assert found.interval is not None
        held += found.interval[0] <= 5 <= found.interval[1]
    assert 180 <= held <= 199  # 95 % of 200, and three standard deviations


def test_an_interval_is_as_wide_as_the_standard_error_says_and_always_the_same():
    values = np.random.default_rng(1).normal(30, 3, 10_000)
    found = figure_of(values)
    assert found == figure_of(values)
    assert found.mean == pytest.approx(values.mean()) and found.deviation == pytest.approx(values.std(ddof=1))
    assert found.interval is not None and RESAMPLES == 1000
    assert found.interval[1] - found.interval[0] == pytest.approx(2 * 1.96 * values.std() / 100, rel=0.1)


def test_one_sample_has_no_interval():
    assert figure_of([28.5]) == Figure(28.5)
