"""Samples for a person: images in a grid, sound to hear and to see, text, piano rolls, shapes from three sides."""

from __future__ import annotations

from functools import singledispatch

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gan_lib.core.sound import encode_wav
from gan_lib.recipes.samples import AudioSamples, ImageSamples, NoteSamples, TextSamples, VoxelSamples
from gan_lib.training.tracker import Tracker

_SECONDS_OF_SILENCE = 0.3  # between two sounds of one file
_SPECTROGRAM_SIDE = 128  # pixels, and the frequencies shown
_DECIBELS_SHOWN = 80.0
_SMALLEST_SHOWN = 128  # pixels: smaller rolls and shapes are enlarged to about this


@singledispatch
def log_samples(samples: object, tracker: Tracker, name: str, images: int) -> None:
    """Log ``samples``, one of the kinds in :mod:`gan_lib.recipes.samples`, as ``name`` at ``images`` images seen."""
    raise TypeError(f"{type(samples).__name__} is no kind of samples that can be shown")


@log_samples.register
def _(samples: ImageSamples, tracker: Tracker, name: str, images: int) -> None:
    tracker.log_image(name, image_grid(samples.images), images)


@log_samples.register
def _(samples: AudioSamples, tracker: Tracker, name: str, images: int) -> None:
    tracker.log_file(name, wav_bytes(samples.waves, samples.rate), ".wav", images)
    tracker.log_image(f"{name}_spectrograms", image_grid(spectrograms(samples.waves)), images)


@log_samples.register
def _(samples: TextSamples, tracker: Tracker, name: str, images: int) -> None:
    text = "".join(f"{line}\n" for line in samples.lines)
    tracker.log_file(name, text.encode(), ".txt", images)


@log_samples.register
def _(samples: NoteSamples, tracker: Tracker, name: str, images: int) -> None:
    tracker.log_image(name, image_grid(piano_rolls(samples.rolls), columns=1), images)


@log_samples.register
def _(samples: VoxelSamples, tracker: Tracker, name: str, images: int) -> None:
    tracker.log_image(name, image_grid(projections(samples.voxels), columns=1), images)


def image_grid(images: Tensor, columns: int | None = None) -> np.ndarray:
    """(B, 1 or 3, H, W) in [-1, 1] -> one H' x W' x 3 uint8 image, row by row, nearly square unless told."""
    images = images.detach().float().cpu().expand(-1, 3, -1, -1)
    count, _, height, width = images.shape
    columns = columns or max(1, round(count**0.5))
    rows = -(-count // columns)
    canvas = torch.ones(rows * columns, 3, height, width)
    canvas[:count] = images
    grid = canvas.view(rows, columns, 3, height, width).permute(0, 3, 1, 4, 2)
    grid = grid.reshape(rows * height, columns * width, 3)
    return ((grid.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()


def wav_bytes(waves: Tensor, rate: int) -> bytes:
    """(B, samples) in [-1, 1] -> a mono 16-bit WAV file of all of them, one after the other, with silence between."""
    silence = torch.zeros(len(waves), round(rate * _SECONDS_OF_SILENCE))
    joined = torch.cat([waves.detach().float().cpu(), silence], dim=1).reshape(-1)
    return encode_wav(joined.numpy(), rate)


def spectrograms(waves: Tensor) -> Tensor:
    """(B, samples) -> (B, 1, 128, 128) in [-1, 1]: time to the right, frequency upwards, 80 dB from dark to bright."""
    waves = waves.detach().float().cpu().nan_to_num()
    size = 2 * _SPECTROGRAM_SIDE
    padded = F.pad(waves, (0, max(0, size - waves.shape[1])))
    hop = max(1, (padded.shape[1] - size) // (_SPECTROGRAM_SIDE - 1))
    bins = torch.stft(padded, size, hop, window=torch.hann_window(size), center=False, return_complex=True)
    decibels = 20 * torch.log10(bins.abs()[:, 1:].clamp_min(1e-10))
    loudest = decibels.amax(dim=(1, 2), keepdim=True)
    levels = ((decibels - loudest) / _DECIBELS_SHOWN + 1).clamp(0, 1) * 2 - 1
    return F.interpolate(levels.flip(1).unsqueeze(1), size=(_SPECTROGRAM_SIDE, _SPECTROGRAM_SIDE), mode="nearest")


def piano_rolls(rolls: Tensor) -> Tensor:
    """(B, pitches, steps) in [0, 1] -> (B, 1, H, W) in [-1, 1]: time to the right, high notes above."""
    return _enlarged(_framed(rolls.detach().float().cpu().flip(1).unsqueeze(1) * 2 - 1))


def projections(voxels: Tensor) -> Tensor:
    """(B, depth, height, width) in [0, 1] -> (B, 1, H, W) in [-1, 1]: seen from the front, from above, from the side.

    A pixel is as bright as the voxels behind it are filled.
    """
    voxels = voxels.detach().float().cpu()
    sides = [voxels.mean(dim=1), voxels.mean(dim=2), voxels.mean(dim=3).transpose(1, 2)]
    tallest = max(side.shape[1] for side in sides)
    padded = [F.pad(side, (0, 0, 0, tallest - side.shape[1])) for side in sides]
    return _enlarged(torch.cat([_framed(side.unsqueeze(1) * 2 - 1) for side in padded], dim=3))


def _framed(images: Tensor) -> Tensor:
    """With a bright line to the right and below, which parts it from its neighbours."""
    return F.pad(images, (0, 1, 0, 1), value=1.0)


def _enlarged(images: Tensor) -> Tensor:
    factor = max(1, _SMALLEST_SHOWN // images.shape[2])
    return images.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)
