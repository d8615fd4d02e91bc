"""What is written can be read by others, and says what the net gave."""

from __future__ import annotations

import io
import wave

import cv2
import numpy as np
import pytest
import torch

from gan_lib.core.errors import UserError
from gan_lib.export.ports import Audio, Image, Label, LabelMap, Notes, Tokens, Vector, Voxels
from gan_lib.scoring.generation.outputs.sample_formats import SampleFormat, formats_of
from gan_lib.scoring.settings import EncodingSettings
from tests.scoring.generation.generators import WORDS, every_medium


def format_of(port, **image) -> SampleFormat:
    return formats_of({"x": port}, EncodingSettings(**image))["x"]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_holds_the_nearest_levels(channels):
    values = torch.linspace(-1.2, 1.2, channels * 5 * 7).view(channels, 5, 7)
    format = format_of(Image(channels))
    array = format.array(values)
    expected = np.clip(np.round((values.numpy() + 1) * 127.5), 0, 255).transpose(1, 2, 0)
    assert np.array_equal(array.reshape(5, 7, -1), expected)
    read = cv2.imdecode(np.frombuffer(format.encode(array), np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(read[..., ::-1] if channels == 3 else read, array)


@pytest.mark.parametrize(("name", "begins"), [("jpeg", b"\xff\xd8"), ("webp", b"RIFF"), ("png", b"\x89PNG")])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_of_the_format_that_was_asked_for(name, begins, channels):
    format = format_of(Image(channels), format=name)
    values = torch.linspace(-1, 1, 16).expand(channels, 16, 16)
    content = format.encode(format.array(values))
    assert content.startswith(begins)
    read = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert np.abs(read.astype(int)[8] - np.linspace(0, 255, 16)).max() < 12


def test_a_label_map_comes_back_exactly():
    classes = torch.randint(0, 12, (9, 11), generator=torch.Generator().manual_seed(0))
    format = format_of(LabelMap(12), format="jpeg")
    read = cv2.imdecode(np.frombuffer(format.encode(format.array(classes)), np.uint8), cv2.IMREAD_UNCHANGED)
    assert format.suffix == ".png" and np.array_equal(read, classes.numpy())


def test_sound_is_a_wav_of_the_ports_rate():
    values = torch.sin(torch.arange(400) / 10) * 1.5
    format = format_of(Audio(8000))
    with wave.open(io.BytesIO(format.encode(format.array(values)))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (8000, 1, 2)
        samples = np.frombuffer(file.readframes(400), "<i2") / 32767
    assert np.abs(samples - values.clamp(-1, 1).numpy()).max() <= 0.5 / 32767 + 1e-7


@pytest.mark.parametrize(("port", "shape"), [(Notes(4, 6), (4, 6)), (Voxels(3), (3, 3, 3))])
def test_notes_and_voxels_are_numpys_files(port, shape):
    values = torch.rand(shape)
    format = format_of(port)
    assert np.array_equal(np.load(io.BytesIO(format.encode(format.array(values)))), values.numpy())


def test_tokens_are_text():
    format = format_of(Tokens(WORDS, 3))
    assert format.encode(format.array(torch.tensor([0, 1, 4]))) == b"a red circle"
    filled = format_of(Tokens(("<pad>", "x"), 4))
    assert filled.encode(filled.array(torch.tensor([1, 0, 1, 0]))) == b"x <pad> x"
    letters = format_of(Tokens(("x", "y"), 3, separator=""))
    assert letters.encode(letters.array(torch.tensor([0, 1, 1]))) == b"xyy"


def test_a_fields_value_comes_back_from_the_dataset():
    outputs = every_medium().outputs
    values = {"image": (3, 5, 4), "classes": (5, 4), "sound": (40,), "notes": (3, 6), "shape": (4, 4, 4), "text": (7,)}
    for name, format in formats_of(outputs, EncodingSettings()).items():
        array, field = format.array(torch.ones(values[name])), format.field(name)
        assert np.array_equal(field.decode(field.encode(array)), array), name


@pytest.mark.parametrize(
    ("port", "says"),
    [(Image(4), "4 channels"), (LabelMap(300), "300 classes"), (Label(3), "label"), (Vector(3), "vector")],
)
def test_what_cannot_be_written_is_refused(port, says):
    with pytest.raises(UserError, match=says):
        format_of(port)
