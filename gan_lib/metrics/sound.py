"""Measures of sound."""

from __future__ import annotations

import torch
from torch import Tensor

FFT = 512
"""Samples a frame of the spectra that are compared: 64 ms at 8 kHz, 32 ms at 16 kHz."""
HOP = 128
"""Samples from one frame to the next."""
_FLOOR = 1e-10


def log_spectral_distance(target: Tensor, prediction: Tensor, fft: int = FFT, hop: int = HOP) -> Tensor:
    """The distance of two sounds' spectra in dB, float64 (B,), from waves (B, T) in [-1, 1]; 0 for equal ones.

    Gray and Markel, "Distance measures for speech processing" (1976): in each Hann frame the root of the mean square,
    over frequencies, of the difference of 10 log10 power; then the mean over frames that lie wholly inside. Powers,
    of amplitudes divided by the sum of the frame's weights, below 1e-10 (-100 dB) count as 1e-10, since silence has no
    logarithm.

    Raises:
        ValueError: the shapes differ, or are shorter than a frame.
    """
    if target.shape != prediction.shape or target.shape[-1] < fft:
        raise ValueError(
            f"cannot compare sounds of {tuple(prediction.shape)} and {tuple(target.shape)} in frames of {fft}"
        )
    difference = _decibels(target, fft, hop) - _decibels(prediction, fft, hop)
    return difference.square().mean(dim=1).sqrt().mean(dim=1)


def _decibels(waves: Tensor, fft: int, hop: int) -> Tensor:
    """(B, T) -> (B, frequencies, frames)."""
    weights = torch.hann_window(fft, dtype=torch.float64, device=waves.device)
    spectra = torch.stft(waves.double(), fft, hop, window=weights, center=False, return_complex=True) / weights.sum()
    return 10 * torch.log10(spectra.abs().square().clamp(min=_FLOOR))
