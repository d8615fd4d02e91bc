"""Metrics as accumulators: however the samples are cut into batches and ranks, the number is the same."""

from __future__ import annotations

import math

import pytest
import torch

from gan_lib.metrics.fidelity import luma_psnr
from gan_lib.metrics.metric import Mean


def mean_psnr() -> Mean:
    return Mean(lambda batch: luma_psnr(batch["target"], batch["prediction"], border=2))


@pytest.fixture(scope="module")
def rows() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 256, (37, 3, 12, 12), dtype=torch.uint8, generator=generator)
    prediction = torch.randint(0, 256, (37, 3, 12, 12), dtype=torch.uint8, generator=generator)
    return {"target": target, "prediction": prediction}


def seen(rows: dict[str, torch.Tensor], *slices: slice) -> Mean:
    metric = mean_psnr()
    for part in slices:
        metric.update({name: values[part] for name, values in rows.items()})
    return metric


def test_two_merged_halves_are_the_whole(rows):
    whole = seen(rows, slice(None))
    first, second = seen(rows, slice(0, 5), slice(5, 11)), seen(rows, slice(11, None))
    merged = mean_psnr()
    merged.merge([first.state(), second.state()])
    assert merged.compute() == pytest.approx(whole.compute(), abs=1e-12)


def test_a_merged_accumulator_forgets_what_it_had_seen_itself_and_its_sources_stay(rows):
    first, second = seen(rows, slice(0, 5)), seen(rows, slice(5, None))
    alone = first.compute()
    states = [first.state(), second.state()]
    first.merge(states)
    assert first.compute() == pytest.approx(seen(rows, slice(None)).compute(), abs=1e-12)
    second.merge(states[:1])
    assert second.compute() == alone


def test_a_mean_of_nothing_is_not_a_number():
    assert math.isnan(mean_psnr().compute())
    merged = mean_psnr()
    merged.merge([mean_psnr().state(), mean_psnr().state()])
    assert math.isnan(merged.compute())
