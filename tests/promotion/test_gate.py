"""The gate's decisions on figures that are known beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from gan_lib.core.config import ConfigError, validate
from gan_lib.core.errors import UserError
from gan_lib.evaluation.measured import TARGET, Measured
from gan_lib.evaluation.prediction import Outcome
from gan_lib.evaluation.promotion.gate import judged
from gan_lib.evaluation.promotion.paired import compare_models, interval
from gan_lib.evaluation.promotion.settings import GateSettings, PromoteSettings

BASE = np.random.default_rng(0).normal(28, 3, 40)  # photos differ by more than models do
NOISE = np.random.default_rng(1).normal(0, 0.2, 40)


def rows(method: str, **metrics: Sequence[float]) -> list[Measured]:
    values = zip(*metrics.values(), strict=True)
    return [
        Measured(f"{number:03d}.png", method, dict(zip(metrics, one, strict=True))) for number, one in enumerate(values)
    ]


def decide(
    gate: Mapping[str, Any],
    champion: Mapping[str, Sequence[float]] | None,
    challenger: Mapping[str, Sequence[float]],
    further: Sequence[Measured] = (),
) -> tuple[bool, str]:
    measured = [*(rows("champion", **champion) if champion else ()), *rows("challenger", **challenger), *further]
    settings = GateSettings(**{"metric": "psnr", **gate})
    reasons = judged(compare_models(Outcome(measured, []), settings), settings, first=champion is None)
    return all(reason.holds for reason in reasons), " ".join(r.sentence for r in reasons)


def test_better_on_the_same_samples_is_accepted_though_the_samples_differ_more():
    accepted, told = decide({}, {"psnr": BASE}, {"psnr": BASE + 0.15 + NOISE})
    assert accepted and "psnr gains 0.1" in told
    unpaired = stats.ttest_ind(BASE + 0.15 + NOISE, BASE).pvalue
    assert unpaired > 0.5, "without pairs nobody could tell"


def test_worse_is_refused():
    accepted, told = decide({}, {"psnr": BASE}, {"psnr": BASE - 0.5})
    assert not accepted and "psnr gains -0.5 (0.95 interval -0.5 to -0.5), and must gain more than 0" in told


def test_a_tie_is_refused():
    accepted, told = decide({}, {"psnr": BASE}, {"psnr": BASE})
    assert not accepted and "gains 0 (0.95 interval 0 to 0)" in told


def test_what_may_be_chance_is_refused():
    chance = NOISE - NOISE.mean() + 0.02  # a mean that is better by a tenth of the spread
    accepted, told = decide({}, {"psnr": BASE}, {"psnr": BASE + chance})
    assert not accepted and "psnr gains 0.02" in told


@pytest.mark.parametrize(("min_gain", "accepted"), [(0.1, True), (0.3, False)])
def test_a_gain_must_be_as_large_as_asked(min_gain: float, accepted: bool):
    assert decide({"min_gain": min_gain}, {"psnr": BASE}, {"psnr": BASE + 0.2})[0] == accepted


@pytest.mark.parametrize(("loss", "accepted"), [(0.001, True), (0.003, False)])
def test_a_gain_must_not_cost_more_elsewhere_than_allowed(loss: float, accepted: bool):
    champion = {"psnr": BASE, "ssim": np.full(40, 0.8)}
    challenger = {"psnr": BASE + 1, "ssim": np.full(40, 0.8 - loss)}
    decided, told = decide({"no_worse": {"ssim": 0.002}}, champion, challenger)
    assert decided == accepted and f"ssim gains -{loss}" in told


def test_of_some_measures_less_is_better():
    gate = {"metric": "lpips", "must_reach": {"lpips": 0.3}}
    assert decide(gate, {"lpips": BASE / 100}, {"lpips": BASE / 100 - 0.02})[0]
    assert not decide(gate, {"lpips": BASE / 100}, {"lpips": BASE / 100 + 0.02})[0]
    accepted, told = decide(gate, {"lpips": BASE / 50}, {"lpips": BASE / 50 - 0.02})
    assert not accepted and "must be at most 0.3" in told


def test_a_measure_of_all_samples_together_has_no_interval():
    measured = [*rows("champion", psnr=BASE), *rows("challenger", psnr=BASE)]
    for champion, challenger, accepted in ((20.0, 18.0, True), (20.0, 20.0, False), (18.0, 20.0, False)):
        outcome = Outcome(measured, [], figures={"champion": {"fid": champion}, "challenger": {"fid": challenger}})
        gate = GateSettings(metric="fid")
        (reason,) = judged(compare_models(outcome, gate), gate, first=False)
        assert reason.holds == accepted and "one number about all samples" in reason.sentence


def test_a_number_that_could_not_be_computed_is_refused_and_no_tags_json_breaks():
    figures = {"champion": {"fid": 20.0}, "challenger": {"fid": float("nan")}}
    gate = GateSettings(metric="fid", must_reach={"fid": 30.0})
    comparison = compare_models(Outcome(rows("challenger", psnr=BASE), [], figures=figures), gate)
    assert not any(reason.holds for reason in judged(comparison, gate, first=False))
    assert comparison.figures["fid"].as_dict() == {"champion": 20.0}


@pytest.mark.parametrize(
    ("must_reach", "accepted", "sentence"),
    [
        ({}, True, "no champion to compare with, and gate.must_reach asks for nothing"),
        ({"psnr": 20.0}, True, "must be at least 20. There is no champion to compare with."),
        ({"psnr": 60.0}, False, "must be at least 60"),
    ],
)
def test_the_first_champion_must_only_reach_what_any_must(must_reach: dict, accepted: bool, sentence: str):
    decided, told = decide({"must_reach": must_reach}, None, {"psnr": BASE})
    assert decided == accepted and sentence in told


def test_too_few_samples_decide_nothing():
    accepted, told = decide({}, {"psnr": BASE[:9]}, {"psnr": BASE[:9] + 1})
    assert not accepted and "9 samples are fewer than gate.min_samples, 10" in told
    assert not decide({}, None, {"psnr": BASE[:9]})[0]
    assert decide({"min_samples": 5}, {"psnr": BASE[:9]}, {"psnr": BASE[:9] + 1})[0]


def test_samples_that_only_the_challenger_makes_nothing_of_count_against_it():
    better = {"psnr": BASE + 1}
    broken = [Measured("broken.png", TARGET, reason="corrupt: no image")]
    both = [Measured("huge.png", method, reason="too-large: no memory") for method in ("champion", "challenger")]
    assert decide({}, {"psnr": BASE}, better, [*broken, *both])[0]
    alone = [Measured("007.png", "challenger", reason="failed: NaN")]
    accepted, told = decide({}, {"psnr": BASE}, better, [*broken, *both, *alone])
    assert not accepted and "makes nothing of 1 samples (007.png)" in told


def test_nothing_measured_is_refused_and_an_unknown_measure_is_named():
    failed = [Measured("a.png", "challenger", reason="failed: NaN")]
    settings = GateSettings(metric="psnr")
    reasons = judged(compare_models(Outcome(failed, []), settings), settings, first=False)
    assert not any(reason.holds for reason in reasons)
    with pytest.raises(UserError, match=r"gate.metric names psnr_y, which .* does not give; it gives: psnr"):
        decide({"metric": "psnr_y"}, {"psnr": BASE}, {"psnr": BASE})
    with pytest.raises(UserError, match=r"gate.no_worse names lpips"):
        decide({"no_worse": {"lpips": 0.1}}, {"psnr": BASE}, {"psnr": BASE})


def test_equal_images_count_as_100_db():
    gate = {"min_samples": 2}
    accepted, told = decide(gate, {"psnr": [30.0, 101.0]}, {"psnr": [31.0, float("inf")]})
    assert "gains 0.5 " in told and not accepted


def test_the_interval_is_scipys_and_the_same_every_time():
    gains = NOISE + 0.1
    found = interval(gains, 0.95, 9_999, seed=0)
    assert found == interval(gains, 0.95, 9_999, seed=0) != interval(gains, 0.95, 9_999, seed=1)
    reference = stats.bootstrap((gains,), np.mean, confidence_level=0.95, method="percentile", n_resamples=9_999)
    np.testing.assert_allclose(found, reference.confidence_interval, atol=0.005)
    many = np.resize(gains, 30_000)  # drawn in several blocks
    assert interval(many, 0.95, 400, seed=0)[0] == pytest.approx(many.mean(), abs=0.01)


@pytest.mark.parametrize("key", ["models", "tracking"])
def test_what_the_job_decides_cannot_be_set_for_its_evaluation(key: str):
    evaluation = {"task": "super_resolution", "images": "in", "output": "out", key: {}}
    with pytest.raises(ConfigError, match=f"evaluation.{key} follows from the job's own keys"):
        validate(PromoteSettings, {"model": "m", "evaluation": evaluation, "gate": {"metric": "psnr"}}, "here")


@pytest.mark.parametrize(("name", "fits"), [("main.vision.up-scaler", True), ("a/b", False), ("m@champion", False)])
def test_a_model_is_named_as_the_registry_does(name: str, fits: bool):
    values = {
        "model": name,
        "evaluation": {"task": "super_resolution", "images": "in", "output": "out"},
        "gate": {"metric": "psnr"},
    }
    if fits:
        assert validate(PromoteSettings, values, "here").model == name
    else:
        with pytest.raises(ConfigError, match="model = "):
            validate(PromoteSettings, values, "here")
