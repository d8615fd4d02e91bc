"""The one encoder of sound: for samples that a person hears, for results, and for examples that travel with a model."""

from __future__ import annotations

import io
import wave

import numpy as np


def encode_wav(samples: np.ndarray, rate: int) -> bytes:
    """WAV, mono, 16 bits, of (samples,) floats in [-1, 1]; values outside are clipped, NaN is silence."""
    levels = np.rint(np.clip(np.nan_to_num(samples, posinf=1.0, neginf=-1.0), -1, 1) * 32_767)
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(levels.astype("<i2").tobytes())
    return content.getvalue()
