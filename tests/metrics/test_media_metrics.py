"""Sound, tokens and voxels against SciPy, closed forms and the figures of the papers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import signal

from gan_lib.metrics.metric import Mean
from gan_lib.metrics.sound import log_spectral_distance
from gan_lib.metrics.tokens import Bleu, DistinctNgrams, MarkovModel, token_nll
from gan_lib.metrics.voxels import voxel_iou

generator = torch.Generator().manual_seed(0)


def test_the_log_spectral_distance_is_what_scipys_transform_gives():
    waves = torch.rand(2, 2, 2000, generator=generator) * 2 - 1
    settings = {"window": signal.get_window("hann", 256), "nperseg": 256, "noverlap": 192, "boundary": None}
    spectra = [signal.stft(wave.double().numpy(), padded=False, **settings)[2] for wave in waves]
    a, b = (20 * np.log10(np.abs(spectrum)) for spectrum in spectra)
    expected = np.sqrt(np.square(a - b).mean(axis=1)).mean(axis=1)
    assert log_spectral_distance(*waves, fft=256, hop=64).numpy() == pytest.approx(expected, rel=1e-6)


def test_half_as_loud_is_six_decibels_away_and_silence_is_a_finite_distance_away():
    wave = torch.rand(1, 4000, generator=generator) * 2 - 1
    assert log_spectral_distance(wave, wave / 2).item() == pytest.approx(20 * math.log10(2), abs=1e-6)
    assert log_spectral_distance(wave, wave).item() == 0
    assert 0 < log_spectral_distance(wave, torch.zeros_like(wave)).item() < 100
    with pytest.raises(ValueError, match="cannot compare sounds"):
        log_spectral_distance(wave, wave[:, 1:])


def test_the_likelihood_under_a_uniform_model_is_the_logarithm_of_the_vocabulary():
    uniform = torch.full((2, 5, 8), 1 / 8).log()
    found = token_nll(uniform, torch.randint(0, 8, (2, 5)), lengths=torch.tensor([5, 2]))
    assert found.tolist() == pytest.approx([math.log(8)] * 7, rel=1e-6)


def test_the_likelihood_of_a_chains_own_samples_approaches_its_entropy_rate():
    transition = torch.tensor([[0.9, 0.1], [0.3, 0.7]], dtype=torch.float64)
    model = MarkovModel(torch.tensor([0.75, 0.25], dtype=torch.float64), transition)
    columns = [torch.multinomial(model.initial.expand(4000, -1), 1, generator=generator)]
    for _ in range(9):
        columns.append(torch.multinomial(transition[columns[-1][:, 0]], 1, generator=generator))
    tokens = torch.cat(columns, dim=1)
    entropy = -(model.initial * (transition * transition.log()).sum(dim=1)).sum().item()
    first = -(model.initial * model.initial.log()).sum().item()
    nll = Mean(lambda batch: token_nll(model.log_probabilities(batch["tokens"]), batch["tokens"]))
    nll.update({"tokens": tokens})
    assert nll.compute() == pytest.approx((first + 9 * entropy) / 10, abs=0.01)
    fitted = MarkovModel.fit(tokens.tolist(), 2)
    assert (fitted.transition - transition).abs().max() < 0.02
    assert (fitted.initial - model.initial).abs().max() < 0.03


WORDS: dict[str, int] = {}


def spelled(text: str) -> list[int]:
    return [WORDS.setdefault(word, len(WORDS)) for word in text.lower().split()]


REFERENCES = [
    "It is a guide to action that ensures that the military will forever heed Party commands",
    "It is the guiding principle which guarantees the military forces always being under the command of the Party",
    "It is the practical guide for the army always to heed the directions of the party",
]


@pytest.mark.parametrize(
    ("candidate", "first", "second"),
    [
        (
            "It is a guide to action which ensures that the military always obeys the commands of the party",
            17 / 18,
            10 / 17,
        ),
        ("It is to insure the troops forever hearing the activity guidebook that party direct", 8 / 14, 1 / 13),
    ],
)
def test_bleus_precisions_are_those_of_the_papers_examples(candidate, first, second):
    metric = Bleu(2)
    metric.update({"candidates": [spelled(candidate)], "references": [[spelled(text) for text in REFERENCES]]})
    assert metric.precisions().tolist() == pytest.approx([first, second])


def test_a_repeated_word_is_clipped_and_brevity_is_punished():
    cats = [spelled("the cat is on the mat"), spelled("there is a cat on the mat")]
    metric = Bleu(1)
    metric.update({"candidates": [spelled("the the the the the the the")], "references": [cats]})
    assert metric.compute() == pytest.approx(2 / 7)  # section 2.1 of the paper
    short = Bleu(1)
    short.update({"candidates": [spelled("the cat")], "references": [cats]})
    assert short.compute() == pytest.approx(math.exp(1 - 6 / 2))
    whole = Bleu()
    whole.update({"candidates": cats, "references": [cats, cats]})
    assert whole.compute() == pytest.approx(1)


def test_distinct_counts_each_ngram_once():
    metric = DistinctNgrams(2)
    metric.update({"candidates": [[1, 2, 1, 2], [2, 1]]})
    assert metric.compute() == 2 / 4
    assert math.isnan(DistinctNgrams(2).compute())


@pytest.mark.parametrize("make", [Bleu, DistinctNgrams])
def test_two_merged_halves_of_a_corpus_are_the_whole(make):
    rows = torch.randint(0, 3, (40, 12), generator=generator).tolist()
    whole, halves = make(), [make(), make()]
    whole.update({"candidates": rows[:20], "references": [rows[20:]] * 20})
    for metric, part in zip(halves, (rows[:7], rows[7:20]), strict=True):
        metric.update({"candidates": part, "references": [rows[20:]] * len(part)})
    merged = make()
    merged.merge([metric.state() for metric in halves])
    assert merged.compute() == pytest.approx(whole.compute(), abs=1e-12)
    assert 0 < whole.compute() < 1


def test_iou_of_two_boxes_is_their_overlap():
    boxes = torch.zeros(3, 8, 8, 8)
    boxes[0, :4], boxes[1, 2:6] = 0.9, 0.6
    assert voxel_iou(boxes[:2], boxes[[1, 1]]).tolist() == [2 / 6, 1]
    assert voxel_iou(boxes, boxes).tolist() == [1, 1, 1]  # of two empty shapes too
    assert voxel_iou(boxes[:1], boxes[2:]).tolist() == [0]
    with pytest.raises(ValueError, match="cannot compare voxels"):
        voxel_iou(boxes, boxes[:2])
