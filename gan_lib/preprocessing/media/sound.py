"""The medium of sound: any format that libsndfile reads, brought to one rate, one channel and clips of one length."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from gan_lib.core.config import Settings
from gan_lib.core.errors import MachineInTrouble, Rejected
from gan_lib.dataset.schema import ArrayField
from gan_lib.preprocessing.media.medium import Cutter, Decoded, Medium, Rules

# Formats whose parsers we let near a stranger's bytes.
_FORMATS = frozenset(("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "MP3"))
_LOSSY_FORMATS = frozenset(("OGG", "MP3"))  # they state their length by an estimate
_RATES = range(1_000, 384_001)
_LONGEST_FILTER = 200_000  # the larger of the two factors of a change of rate: the filter has 20 times as many taps
_BLOCK_VALUES = 1 << 18  # of all channels: a file may claim a thousand


class FirstClip(Settings):
    """The beginning of each file."""

    kind: Literal["first"] = "first"

    def starts(self, samples: int, length: int, rng: np.random.Generator) -> list[int]:
        """Where clips of ``length`` begin in a file of ``samples``, which is no shorter."""
        return [0]


class RandomClips(Settings):
    """``count`` clips anywhere in the file. The same file and seed give the same clips."""

    kind: Literal["random"]
    count: int = Field(default=1, gt=0)
    """clips from each file"""
    """clips of one file"""

    def starts(self, samples: int, length: int, rng: np.random.Generator) -> list[int]:
        """Where clips of ``length`` begin in a file of ``samples``, which is no shorter."""
        return list(dict.fromkeys(rng.integers(0, samples - length + 1, self.count).tolist()))


class GridClips(Settings):
    """Clips ``stride`` samples apart from the beginning on; what is left over at the end is lost."""

    kind: Literal["grid"]
    stride: int | None = Field(default=None, gt=0)
    """samples from one clip to the next; null puts them side by side"""

    def starts(self, samples: int, length: int, rng: np.random.Generator) -> list[int]:
        """Where clips of ``length`` begin in a file of ``samples``, which is no shorter."""
        return list(range(0, samples - length + 1, self.stride or length))


Clips = Annotated[FirstClip | RandomClips | GridClips, Field(discriminator="kind")]


@dataclass(frozen=True)
class ClipCutter(Cutter):
    """Clips of one length; of files that belong together, at the same times."""

    length: int
    clips: Clips
    pad: bool

    def cut(self, parts: Sequence[NDArray], judged: int | None, rng: np.random.Generator) -> list[list[NDArray]]:
        lengths = {len(part) for part in parts}
        if len(lengths) > 1:
            raise Rejected("sizes-differ", f"the sounds of a sample have {sorted(lengths)} samples")
        missing = self.length - len(parts[0])
        if missing > 0 and not self.pad:
            raise Rejected("too-short", f"{len(parts[0])} samples, a clip needs {self.length}")
        if missing > 0:
            return [[np.pad(part, (0, missing)) for part in parts]]
        starts = self.clips.starts(len(parts[0]), self.length, rng)
        return [[part[start : start + self.length] for part in parts] for start in starts]


class SoundMedium(Medium):
    """Sound files as arrays (samples,) of one rate; several channels are averaged to one."""

    kind: Literal["sound"]
    rate: int = Field(ge=_RATES.start, lt=_RATES.stop)
    """samples a second that all files are brought to"""
    samples: int | None = Field(default=None, gt=0)
    """length of a clip; or else ``seconds``; with neither, each file is one clip of its own length"""
    seconds: float | None = Field(default=None, gt=0)
    """length of a clip; or else ``samples``"""
    clips: Clips = FirstClip()
    """which clips are cut from a file"""
    pad: bool = True
    """fill files that are shorter than a clip with silence at their end; false rejects them"""
    dtype: Literal["int16", "float32"] = "int16"
    """how samples are stored: whole numbers from -32,768 to 32,767, or -1 to 1"""
    max_seconds: float = Field(default=300.0, gt=0)
    """a longer file is rejected before memory is taken for it"""

    @model_validator(mode="after")
    def _one_length(self) -> SoundMedium:
        if self.samples is not None and self.seconds is not None:
            raise ValueError("name either samples or seconds, not both")
        return self

    @property
    def clip_length(self) -> int | None:
        """Samples in a clip."""
        return round(self.seconds * self.rate) if self.seconds is not None else self.samples

    def decode(self, content: bytes, rules: Rules) -> Decoded:
        if not content:
            raise Rejected("empty", "the file has no bytes")
        if len(content) > rules.limits.max_bytes:
            raise Rejected("too-many-bytes", f"{len(content)} bytes, allowed are {rules.limits.max_bytes}")
        _require_whole(content)
        try:
            mono, rate = _read(content, self.max_seconds)
        except Rejected:
            raise
        except MemoryError as error:  # the settings bound what is taken
            raise MachineInTrouble("This machine has no memory to decode a sound; run fewer tasks on it.") from error
        except Exception as error:  # libsndfile raises whatever its bytes lead it to
            raise Rejected("corrupt", str(error) or type(error).__name__) from None
        mono = resampled(mono, rate, self.rate)
        return Decoded(_as_int16(mono) if self.dtype == "int16" else mono, length=len(mono))

    def field(self, name: str, rules: Rules) -> ArrayField:
        return ArrayField(name, self.dtype, (self.clip_length,))

    def cutter(self, rules: Rules) -> Cutter:
        length = self.clip_length
        return super().cutter(rules) if length is None else ClipCutter(length, self.clips, self.pad)

    def meaning(self) -> dict[str, Any]:
        return {"rate": self.rate}


def resampled(mono: NDArray[np.float32], rate: int, wanted: int) -> NDArray[np.float32]:
    """``mono`` brought from ``rate`` to ``wanted`` samples a second, by a polyphase filter.

    Raises:
        Rejected: ``unsupported`` when the two rates have so little in common that the filter would not end.
    """
    from scipy.signal import resample_poly  # takes a second to import, and images never need it

    common = gcd(rate, wanted)
    up, down = wanted // common, rate // common
    if max(up, down) > _LONGEST_FILTER:
        raise Rejected("unsupported", f"{rate} samples a second cannot be brought to {wanted}")
    if up == down:
        return mono
    return np.asarray(resample_poly(mono, up, down), dtype=np.float32)


def _read(content: bytes, max_seconds: float) -> tuple[NDArray[np.float32], int]:
    """(samples,) between -1 and 1, the mean of all channels, and their rate; block by block."""
    import soundfile

    try:
        file = soundfile.SoundFile(io.BytesIO(content))
    except soundfile.LibsndfileError as error:
        raise Rejected("not-a-sound", str(error)) from None
    with file:
        if file.format not in _FORMATS or file.samplerate not in _RATES:
            raise Rejected("unsupported", f"{file.format} of {file.samplerate} samples a second is not read")
        if file.frames > max_seconds * file.samplerate:
            raise Rejected("too-long", f"{file.frames / file.samplerate:.0f} s, allowed are {max_seconds:g}")
        blocks = [
            block.mean(axis=1)
            for block in file.blocks(max(1, _BLOCK_VALUES // file.channels), dtype="float32", always_2d=True)
        ]
        mono = np.concatenate(blocks) if blocks else np.empty(0, np.float32)
        if not len(mono):
            raise Rejected("empty", "the file holds no sound")
        if len(mono) < file.frames and file.format not in _LOSSY_FORMATS:
            raise Rejected("corrupt", f"it breaks off after {len(mono)} of {file.frames} samples")
        if not np.isfinite(mono).all():
            raise Rejected("not-finite", "it holds values that are not numbers or infinite")
        return mono, file.samplerate


def _require_whole(content: bytes) -> None:
    """See that no chunk of a RIFF or AIFF file reaches beyond its end: libsndfile makes do with what is there.

    Raises:
        Rejected: ``corrupt``.
    """
    if content[:4] not in (b"RIFF", b"FORM"):
        return
    order: Literal["little", "big"] = "little" if content[:4] == b"RIFF" else "big"
    end = min(8 + (int.from_bytes(content[4:8], order) or len(content)), len(content))  # 0: its writer could not tell
    position = 12
    while position + 8 <= end:
        size = int.from_bytes(content[position + 4 : position + 8], order)
        if position + 8 + size > len(content):
            name = content[position : position + 4].decode("ascii", "replace").strip()
            missing = position + 8 + size - len(content)
            raise Rejected(
                "corrupt", f"it breaks off: its part {name!r} claims {size} bytes, {missing} of them are missing"
            )
        position += 8 + size + size % 2


def _as_int16(mono: NDArray[np.float32]) -> NDArray[np.int16]:
    """As a WAV file of 16 bits stores it: what came from one comes back as it was."""
    return np.clip(np.rint(mono * 32768.0), -32768, 32767).astype(np.int16)
