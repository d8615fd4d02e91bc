"""A sample is a function of its row, and of nothing else; a row that cannot be used has a reason."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gan_lib.core.errors import UserError
from gan_lib.export.artifact import Artifact
from gan_lib.export.ports import Image, Latent, Tokens
from gan_lib.scoring.generation.conditions import conditions_of
from gan_lib.scoring.generation.inputs import latents
from gan_lib.scoring.generation.maker import SampleMaker
from gan_lib.scoring.generation.predictor import SamplePredictor
from gan_lib.scoring.generation.rows import RowRejected, Sample, SampleRow
from tests.scoring.generation.generators import (
    WORDS,
    Restless,
    built,
    conditional,
    dcgan,
    every_medium,
    from_words,
    labelled,
)

CPU = torch.device("cpu")


def samples(
    artifact: Artifact, *rows: SampleRow, batch_size: int = 64, truncation: float | None = None
) -> list[Sample]:
    return list(SampleMaker(artifact, CPU, batch_size, truncation).run(rows))


def row(seed: int | None = 0, **conditions: object) -> SampleRow:
    return SampleRow("x", seed, conditions)


def image(sample: Sample) -> np.ndarray:
    assert sample.arrays is not None, sample.message
    return sample.arrays["image"]


def test_a_latent_follows_from_its_seed_and_its_name_alone():
    port = Latent((3, 5))
    among_others = latents(port, "z", [7, -1, 2**63 - 1, 42])
    for number, seed in enumerate([7, -1, 2**63 - 1, 42]):
        torch.manual_seed(seed % 1000)
        assert torch.equal(latents(port, "z", [seed])[0], among_others[number])
    assert not torch.equal(latents(port, "z", [7]), latents(port, "w", [7]))
    assert len({tuple(value.flatten().tolist()) for value in among_others}) == 4


def test_latents_have_the_distribution_of_their_port():
    normal = latents(Latent((100,)), "z", range(400)).double()
    assert abs(normal.mean()) < 0.02 and abs(normal.std() - 1) < 0.02
    uniform = latents(Latent((100,), "uniform"), "z", range(400)).double()
    assert uniform.min() >= 0 and uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 0.01 and abs(uniform.var() - 1 / 12) < 0.005


def test_truncation_scales_normal_latents_and_no_others():
    port = Latent((6,))
    assert torch.equal(latents(port, "z", [1], 0.5), latents(port, "z", [1]) * 0.5)
    uniform = Latent((6,), "uniform")
    assert torch.equal(latents(uniform, "z", [1], 0.5), latents(uniform, "z", [1]))
    with pytest.raises(UserError, match="truncation"):
        samples(labelled(), row(label=0), truncation=0.5)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_the_net_gives_a_row_the_same_values_whatever_its_batch_is(batch_size):
    artifact = dcgan()
    predictor = SamplePredictor(artifact, CPU, batch_size)
    values = latents(artifact.inputs["latent"], "latent", range(20))
    alone = torch.cat([predictor.run([value[None]])["image"] for value in values])
    together = torch.cat([predictor.run([part])["image"] for part in values.split(batch_size)])
    assert (alone - together).abs().max() < 1e-5


def test_an_order_of_rows_changes_no_sample():
    rows = [row(seed) for seed in range(10)]
    forwards, backwards = samples(dcgan(), *rows, batch_size=4), samples(dcgan(), *rows[::-1], batch_size=3)
    for one, other in zip(forwards, backwards[::-1], strict=True):
        assert np.abs(image(one).astype(int) - image(other)).max() <= 1


def test_a_batch_that_does_not_fit_is_halved(monkeypatch):
    artifact = dcgan()
    expected = samples(artifact, *(row(seed) for seed in range(7)))
    forward = artifact.net.forward

    def small(values):
        if len(values) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return forward(values)

    monkeypatch.setattr(artifact.net, "forward", small)
    for one, other in zip(expected, samples(artifact, *(row(seed) for seed in range(7))), strict=True):
        assert np.abs(image(one).astype(int) - image(other)).max() <= 1


def test_a_net_that_draws_numbers_of_its_own_is_refused():
    artifact = built(Restless, {"latent": Latent((4,))}, {"image": Image(1)})
    with pytest.raises(UserError, match="Restless draws random numbers"):
        samples(artifact, row())


def test_a_class_may_be_given_by_number_or_by_name():
    by_number, by_name, by_text, other = samples(
        conditional(), *(row(style=[0.0, 1.0], label=label) for label in (1, "dog", "1", 2))
    )
    assert np.array_equal(image(by_number), image(by_name)) and np.array_equal(image(by_number), image(by_text))
    assert not np.array_equal(image(by_number), image(other))
    assert by_name.row.conditions["label"] == 1


def test_a_row_may_bring_its_own_latent():
    artifact = conditional()
    drawn = latents(artifact.inputs["latent"], "latent", [5])[0].tolist()
    given = row(0, style=[0.0, 1.0], label=1, latent=drawn)
    beside = row(1, style=[0.0, 1.0], label=1)
    same, _, from_seed = samples(artifact, given, beside, row(5, style=[0.0, 1.0], label=1))
    assert np.array_equal(image(same), image(from_seed))


def test_words_are_looked_up():
    red, blue = samples(from_words(), row(words="red square"), row(words="blue square"))
    assert not np.array_equal(image(red), image(blue))


FITS = {"style": [0.0, 1.0], "label": 1}


@pytest.mark.parametrize(
    ("bad", "reason", "says"),
    [
        (row(None, **FITS), "no-seed", "no seed"),
        (row(1e300, **FITS), "no-seed", "whole number"),
        (row(label=1), "missing-input", "style"),
        (row(style=[0.0, 1.0]), "missing-input", "label"),
        (row(**{**FITS, "label": 3}), "unfit-input", "0 to 2"),
        (row(**{**FITS, "label": -1}), "unfit-input", "0 to 2"),
        (row(**{**FITS, "label": 0.5}), "unfit-input", "0.5"),
        (row(**{**FITS, "label": "horse"}), "unfit-input", "horse"),
        (row(**{**FITS, "style": [1.0]}), "unfit-input", "2 finite numbers"),
        (row(**{**FITS, "style": [1.0, None]}), "unfit-input", "2 finite numbers"),
        (row(**{**FITS, "style": ["x", "y"]}), "unfit-input", "no list of numbers"),
        (row(**FITS, latent=[0.0] * 3), "unfit-input", "4 finite numbers"),
    ],
)
def test_a_row_that_does_not_fit_has_a_reason_and_its_neighbours_their_samples(bad, reason, says):
    good = row(3, **FITS)
    before, rejected, after = samples(conditional(), good, bad, good)
    assert (rejected.arrays, rejected.reason) == (None, reason) and says in str(rejected.message)
    assert np.array_equal(image(before), image(after))


@pytest.mark.parametrize(
    ("words", "says"), [("red horse", "'horse'"), ("red", "1 words"), ("a red circle", "3 words"), (7, "no text")]
)
def test_words_that_the_model_never_saw_are_a_reason(words, says):
    (sample,) = samples(from_words(), row(words=words))
    assert sample.reason == "unfit-input" and says in str(sample.message)


def test_a_short_text_is_filled_where_the_vocabulary_can():
    port = Tokens(("<pad>", *WORDS), 4)
    condition = conditions_of({"words": port})["words"]
    assert condition.tensor(condition.parse("red circle")).tolist() == [2, 5, 0, 0]
    with pytest.raises(RowRejected, match="5 words"):
        condition.parse("a red red red circle")


def test_values_that_are_not_finite_are_no_sample():
    artifact = dcgan()
    list(artifact.net.parameters())[-1].fill_(float("nan"))
    (sample,) = samples(artifact, row())
    assert sample.reason == "not-finite" and sample.arrays is None


def test_a_model_of_every_medium_gives_each_its_array():
    (sample,) = samples(every_medium(), row(4))
    assert sample.arrays is not None
    kinds = {name: (array.dtype.name, array.shape) for name, array in sample.arrays.items()}
    assert kinds == {
        "image": ("uint8", (5, 4, 3)),
        "classes": ("uint8", (5, 4)),
        "sound": ("float32", (40,)),
        "notes": ("float32", (3, 6)),
        "shape": ("float32", (4, 4, 4)),
        "text": ("int64", (7,)),
    }
