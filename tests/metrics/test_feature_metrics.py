"""FID, KID, Inception Score, precision, recall, density and coverage against SciPy, closed forms and plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import linalg, spatial, special

from gan_lib.metrics.sets.feature_rows import FeatureRows
from gan_lib.metrics.sets.frechet import Moments, frechet_distance
from gan_lib.metrics.sets.frechet import fid as fid_of_moments
from gan_lib.metrics.sets.inception_score import InceptionScore
from gan_lib.metrics.sets.kernel_distance import kernel_distance, squared_mmd
from gan_lib.metrics.sets.manifold import coverage, density, precision, recall

generator = torch.Generator().manual_seed(0)
REAL = torch.randn(300, 16, generator=generator) @ torch.randn(16, 16, generator=generator)
FAKE = torch.randn(280, 16, generator=generator) * 2 + 0.5


def fid(real: torch.Tensor, fake: torch.Tensor) -> float:
    sets = [Moments(real.shape[1]), Moments(real.shape[1])]
    for moments, features in zip(sets, (real, fake), strict=True):
        moments.update({"features": features})
    return fid_of_moments(*sets)


def test_fid_is_what_scipy_gives():
    a, b = REAL.double().numpy(), FAKE.double().numpy()
    root = linalg.sqrtm(np.cov(a, rowvar=False) @ np.cov(b, rowvar=False)).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(
        np.cov(a, rowvar=False) + np.cov(b, rowvar=False) - 2 * root
    )
    assert fid(REAL, FAKE) == pytest.approx(expected, rel=1e-9)


def test_fid_of_gaussians_has_its_closed_form():
    deviations = torch.tensor([1.0, 2.0, 3.0, 0.0])
    others = torch.tensor([1.0, 4.0, 1.0, 2.0])
    rotation = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=generator))[0]
    mean = torch.zeros(4)
    shift = torch.tensor([3.0, 0.0, 4.0, 0.0])
    a, b = (rotation @ torch.diag(d.double() ** 2) @ rotation.T for d in (deviations, others))
    expected = 25 + float((deviations - others).square().sum())
    assert frechet_distance(mean, a, shift, b) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("rows", [300, 10], ids=["more rows than dimensions", "fewer rows than dimensions"])
def test_fid_of_a_set_with_itself_is_zero(rows):
    assert fid(REAL[:rows], REAL[:rows].flip(0)) < 1e-6
    assert fid(REAL[:rows], FAKE[:rows]) > 1


def test_fid_of_too_few_samples_is_not_a_number():
    assert math.isnan(fid(REAL[:1], FAKE))


def test_mmd_is_its_definition_with_the_diagonal_left_out():
    x, y = REAL[:9].double().numpy(), FAKE[:7].double().numpy()

    def kernel(a, b):
        return (a @ b / len(a) + 1) ** 3

    within_x = np.mean([kernel(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j])
    within_y = np.mean([kernel(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j])
    across = np.mean([kernel(a, b) for a in x for b in y])
    assert squared_mmd(REAL[:9], FAKE[:7]) == pytest.approx(within_x + within_y - 2 * across, rel=1e-12)


def test_kid_of_one_distribution_is_zero_on_average_and_not_of_two():
    one, two = torch.randn(2, 2000, 8, generator=generator)
    mean, deviation = kernel_distance(one, two, subsets=50, size=100)
    assert abs(mean) < 3 * deviation / math.sqrt(10) and deviation > 0
    assert kernel_distance(one, two + 1, subsets=50, size=100)[0] > 10 * deviation


def test_kid_of_all_rows_has_one_value_and_its_seed_decides_the_subsets():
    mean, deviation = kernel_distance(REAL[:50], FAKE[:50], subsets=3, size=50)
    assert (mean, deviation) == (pytest.approx(squared_mmd(REAL[:50], FAKE[:50])), pytest.approx(0, abs=1e-9))
    drawn = [kernel_distance(REAL, FAKE, subsets=3, size=50, seed=seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_mmd_of_a_single_sample_is_refused():
    with pytest.raises(ValueError, match="two rows"):
        squared_mmd(REAL[:1], FAKE)


def balls(rows: np.ndarray, k: int) -> np.ndarray:
    return spatial.cKDTree(rows).query(rows, k + 1)[0][:, k]


def test_precision_recall_density_and_coverage_are_what_a_tree_of_neighbours_gives():
    real, fake = REAL.double().numpy(), (REAL[:200] * 0.8 + FAKE[:200]).double().numpy()
    across = spatial.distance.cdist(fake, real)
    ours = [measure(torch.from_numpy(real), torch.from_numpy(fake), k=5) for measure in (precision, recall)]
    assert ours == [
        pytest.approx((balls(real, 5) >= across).any(axis=1).mean()),
        pytest.approx((balls(fake, 5) >= across.T).any(axis=1).mean()),
    ]
    assert min(ours) > 0 and max(ours) < 1
    ours = [measure(torch.from_numpy(real), torch.from_numpy(fake), k=5) for measure in (density, coverage)]
    assert ours == [
        pytest.approx((across <= balls(real, 5)).sum(axis=1).mean() / 5),
        pytest.approx((across.min(axis=0) <= balls(real, 5)).mean()),
    ]


def test_a_set_covers_itself_and_nothing_far_away():
    for measure in (precision, recall, coverage):
        assert measure(REAL, REAL) == 1
        assert measure(REAL, REAL + 1000) == 0
    assert density(REAL, REAL + 1000) == 0
    with pytest.raises(ValueError, match="nearest neighbours"):
        precision(REAL[:3], FAKE)


def test_density_of_one_distribution_is_about_one():
    one, two = torch.randn(2, 1000, 4, generator=generator)
    assert density(one, two) == pytest.approx(1, abs=0.1)


def test_one_real_outlier_swallows_fakes_for_precision_and_hardly_for_density():
    """Naeem et al. (2020), figure 2."""
    cluster = torch.randn(100, 4, generator=generator)
    outlier = torch.tensor([[100.0, 0, 0, 0]])
    fake = outlier + torch.randn(50, 4, generator=generator)
    assert precision(cluster, fake) == density(cluster, fake) == 0
    assert precision(torch.cat([cluster, outlier]), fake, k=5) == 1
    assert density(torch.cat([cluster, outlier]), fake, k=5) == 1 / 5


def test_a_dropped_mode_shows_in_recall_and_coverage_not_in_precision():
    modes = torch.randn(4, 200, 8, generator=generator) + 20 * torch.eye(8)[:4].unsqueeze(1)
    real, fake = modes[:, :100].flatten(0, 1), modes[:2, 100:].flatten(0, 1)
    assert precision(real, fake) > 0.7
    assert recall(real, fake) <= 0.5 and coverage(real, fake) <= 0.5


def score(logits: torch.Tensor, splits: int) -> InceptionScore:
    metric = InceptionScore(logits.shape[1], splits)
    metric.update({"logits": logits, "position": torch.arange(len(logits))})
    return metric


def test_the_inception_score_is_the_exponential_of_a_mean_divergence():
    logits = torch.randn(60, 7, generator=generator) * 3
    found = score(logits, splits=3).scores()
    for split in range(3):
        p = special.softmax(logits[split::3].double().numpy(), axis=1)
        expected = np.exp(special.rel_entr(p, p.mean(0)).sum(axis=1).mean())
        assert found[split] == pytest.approx(expected, rel=1e-12)
    assert score(logits, splits=3).compute() == pytest.approx(found.mean())


def test_the_inception_score_of_certain_and_balanced_answers_is_the_number_of_classes():
    certain = torch.eye(5).repeat(4, 1) * 1000
    assert score(certain, splits=1).compute() == pytest.approx(5)
    assert score(certain[:1].expand(20, -1), splits=1).compute() == pytest.approx(1)
    assert score(torch.zeros(20, 5), splits=10).compute() == pytest.approx(1)


def batches(rows: torch.Tensor) -> list[dict[str, torch.Tensor]]:
    """Of 37 rows each."""
    positions = torch.arange(len(rows)).split(37)
    return [
        {"features": part, "logits": part, "position": p} for part, p in zip(rows.split(37), positions, strict=True)
    ]


@pytest.mark.parametrize(
    ("make", "value"),
    [
        (lambda: Moments(16), lambda moments: fid_of_moments(moments, moments_of_fake())),
        (lambda: InceptionScore(16), InceptionScore.compute),
        (FeatureRows, lambda rows: kernel_distance(rows.rows(), FAKE, subsets=5, size=100)[0]),
    ],
    ids=["moments", "inception score", "rows"],
)
def test_two_merged_halves_are_the_whole_in_any_order(make, value):
    whole, halves, merged = make(), [make(), make()], make()
    for batch in batches(REAL):
        whole.update(batch)
    for number, batch in enumerate(reversed(batches(REAL))):
        halves[number % 2].update(batch)
    merged.merge([half.state() for half in halves])
    assert value(merged) == pytest.approx(value(whole), rel=1e-9, abs=1e-9)
    assert value(whole) != 0


def moments_of_fake() -> Moments:
    moments = Moments(16)
    moments.update({"features": FAKE})
    return moments


def test_a_partition_that_saw_nothing_changes_nothing():
    some, none = FeatureRows(), FeatureRows()
    some.update({"features": REAL, "position": torch.arange(300)})
    assert not len(none.rows())
    none.merge([some.state(), none.state()])
    assert torch.equal(none.rows(), REAL)


def test_rows_without_as_many_positions_are_refused():
    with pytest.raises(ValueError, match="positions"):
        FeatureRows().update({"features": REAL, "position": torch.arange(3)})
