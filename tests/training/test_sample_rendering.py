"""Each kind of samples becomes something that a person can look at or listen to."""

from __future__ import annotations

import io
import math
import wave

import numpy as np
import pytest
import torch
from recording_tracker import RecordingTracker

from gan_lib.recipes.samples import AudioSamples, ImageSamples, NoteSamples, TextSamples, VoxelSamples
from gan_lib.training.samples import image_grid, log_samples, piano_rolls, projections, spectrograms, wav_bytes


def test_a_grid_puts_images_row_by_row():
    levels = torch.tensor([-1.0, 0.0, 1.0]).view(3, 1, 1, 1).expand(-1, 1, 2, 2)
    grid = image_grid(levels, columns=2)
    assert grid.shape == (4, 4, 3)
    assert grid.dtype == np.uint8
    assert (grid[0, 0, 0], grid[0, 2, 0], grid[2, 0, 0], grid[2, 2, 0]) == (0, 128, 255, 255)


def test_sounds_are_heard_one_after_the_other_with_silence_between():
    waves = torch.stack([torch.full((80,), 0.5), torch.full((80,), -2.0)])
    with wave.open(io.BytesIO(wav_bytes(waves, rate=100))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 100)
        levels = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    assert len(levels) == 2 * (80 + 30)
    assert set(levels[:80]) == {round(0.5 * 32767)}
    assert set(levels[80:110]) == {0}
    assert set(levels[110:190]) == {-32767}  # clipped, not wrapped


@pytest.mark.parametrize("length", [100, 256, 8_000, 100_000])
def test_a_spectrogram_is_brightest_at_the_frequency_that_sounds(length):
    cycles = 1 / 4  # of a sample: half of the frequencies that can be shown
    wave_of_one = torch.sin(2 * math.pi * cycles * torch.arange(length)).unsqueeze(0)
    (image,) = spectrograms(wave_of_one)
    assert image.shape == (1, 128, 128)
    assert image.min() >= -1 and image.max() == 1
    assert abs(int(image[0, :, 0].argmax()) - 64) <= 1


def test_silence_and_sounds_that_are_not_finite_are_shown_without_an_error():
    assert spectrograms(torch.zeros(1, 300)).isfinite().all()
    assert len(wav_bytes(torch.full((1, 8), math.nan), rate=8)) > 44


def test_a_piano_roll_has_high_notes_above_and_time_to_the_right():
    roll = torch.zeros(1, 4, 3)
    roll[0, 3, 0] = 1.0  # the highest note, at first
    image = piano_rolls(roll)[0, 0]
    factor = image.shape[0] // 5
    assert image.shape == (5 * factor, 4 * factor) and factor == 25
    assert (image[:factor, :factor] == 1).all()
    assert (image[factor : 4 * factor, : 3 * factor] == -1).all()


def test_a_shape_is_seen_from_three_sides():
    voxels = torch.zeros(1, 2, 3, 4)
    voxels[0, :, 0, 0] = 1.0  # a bar from front to back, above, at the left
    image = projections(voxels)[0, 0]
    factor = 128 // 4
    front, above, side = (
        image[::factor, ::factor][:3, start : start + width] for start, width in ((0, 4), (5, 4), (10, 2))
    )
    assert front.tolist() == [[1, -1, -1, -1], [-1] * 4, [-1] * 4]
    assert above[:2, 0].tolist() == pytest.approx([-1 + 2 / 3] * 2)
    assert side[0].tolist() == pytest.approx([-0.5, -0.5])
    assert side[1:].eq(-1).all()


KINDS = {
    "images": (ImageSamples(torch.zeros(2, 1, 4, 4)), [], ["samples"]),
    "audio": (AudioSamples(torch.zeros(2, 400), 100), ["samples.wav"], ["samples_spectrograms"]),
    "text": (TextSamples(["eins", "zwei"]), ["samples.txt"], []),
    "notes": (NoteSamples(torch.zeros(2, 8, 16)), [], ["samples"]),
    "voxels": (VoxelSamples(torch.zeros(2, 4, 4, 4)), [], ["samples"]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_samples_is_logged_as_files_and_images(kind, tracker: RecordingTracker):
    samples, files, images = KINDS[kind]
    log_samples(samples, tracker, "samples", 32)
    assert [name for _, name, _ in tracker.files] == files
    assert [name for _, name, _ in tracker.images] == images
    assert all(at == 32 for at, *_ in tracker.files + tracker.images)
    assert all(image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 for *_, image in tracker.images)


def test_text_is_one_line_for_each_sample(tracker: RecordingTracker):
    log_samples(TextSamples(["eins", "zwei"]), tracker, "samples", 1)
    assert tracker.files[0][2] == b"eins\nzwei\n"
