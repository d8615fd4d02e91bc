"""A file that is cut short, hostile, foreign or wrong is refused in one sentence, and nothing in it is run."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from public_nets import BasicRRDBNet, Compact, MSRResNet, OldESRGAN, Resnet, Unet, batch_norm, randomised
from torch import Tensor, nn

from gan_lib.importing.reading import PublishedFileError, read_published
from gan_lib.importing.recognition import import_known
from gan_lib.importing.settings import ChoiceSettings

State = dict[str, Tensor]


def saved(state: object, legacy: bool = False) -> bytes:
    content = io.BytesIO()
    torch.save(state, content, _use_new_zipfile_serialization=not legacy)
    return content.getvalue()


def refusal(content: bytes, folder: Path, max_megabytes: int = 64) -> str:
    """The sentence on a file of this content."""
    path = folder / "net.pth"
    path.write_bytes(content)
    with pytest.raises(PublishedFileError) as refused:
        import_known(read_published(str(path), max_megabytes), ChoiceSettings(batch_norm="running"))
    sentence = str(refused.value)
    assert str(path) in sentence and "\n" not in sentence and len(sentence) < 1500
    return sentence


class Code:
    """What a hostile file holds: whoever unpickles it makes the folder."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.trace),)


CONTAINERS: dict[str, Callable[[dict[str, object]], bytes]] = {
    "zip": saved,
    "legacy": lambda held: saved(held, legacy=True),
    "pickle of torch's protocol": lambda held: pickle.dumps(held["extra"], protocol=2),
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_pickled_code_is_refused_and_never_run(container: str, tmp_path: Path):
    trace = tmp_path / "it ran"
    hostile = {"params_ema": randomised(Compact()).state_dict(), "extra": Code(trace)}
    assert "holds code (posix.mkdir)" in refusal(CONTAINERS[container](hostile), tmp_path)
    assert not trace.exists()
    pickle.loads(pickle.dumps(hostile["extra"]))
    assert trace.exists(), "the file was not hostile: the test proves nothing"


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_pickled_code_of_a_protocol_that_torch_never_writes_is_no_weights(tmp_path: Path):
    trace = tmp_path / "it ran"
    assert "cannot be read as weights" in refusal(pickle.dumps(Code(trace), protocol=4), tmp_path)
    assert not trace.exists()


def test_a_pickled_net_is_code_too(tmp_path: Path):
    assert "state_dict() alone" in refusal(saved(nn.Conv2d(3, 3, 3)), tmp_path)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kept", [0.0, 0.05, 0.5, 0.99])
def test_a_file_that_is_cut_short_is_refused(kept: float, legacy: bool, tmp_path: Path):
    content = saved(randomised(Compact()).state_dict(), legacy)
    assert "cut short, damaged" in refusal(content[: int(len(content) * kept)], tmp_path)


def test_a_flipped_bit_is_seen_in_a_zip_and_a_cut_in_safetensors(tmp_path: Path):
    content = bytearray(saved(randomised(MSRResNet()).state_dict()))
    content[len(content) // 2] ^= 4
    assert "damaged" in refusal(bytes(content), tmp_path)
    content = safetensors.torch.save(randomised(Compact()).state_dict())
    assert "cut short, damaged" in refusal(content[:-40], tmp_path)


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"\x89PNG\r\n\x1a\n" + bytes(99), os.urandom(4000)])
def test_what_is_no_file_of_weights_is_refused(content: bytes, tmp_path: Path):
    assert "neither .pth nor .safetensors" in refusal(content, tmp_path)


@pytest.mark.parametrize(
    ("holds", "sentence"),
    [
        ([1, 2, 3], "no tensors by name, but an object of type list"),
        (torch.zeros(3), "no tensors by name, but an object of type Tensor"),
        ({}, "no tensors by name"),
        ({"epoch": 3, "loss": 0.5}, "holds no state dict, but 'epoch', 'loss'"),
        ({"features.0.weight": torch.zeros(64, 3, 3, 3)}, r"holds 1 tensors (features.0.weight) of no format"),
        ({"body.0.weight": torch.zeros(2, 2, dtype=torch.complex64)}, "plain numbers are needed"),
        ({"body.0.weight": torch.zeros(2, 2).to_sparse()}, "plain numbers are needed"),
    ],
)
def test_a_foreign_file_is_told_what_was_found(holds: object, sentence: str, tmp_path: Path):
    assert sentence in refusal(saved(holds), tmp_path)


def test_a_foreign_file_is_told_what_is_known(tmp_path: Path):
    sentence = refusal(saved({"classifier.weight": torch.zeros(1)}), tmp_path)
    for name in ("ESRGAN", "Real-ESRGAN", "SRVGGNetCompact", "MSRResNet", "CycleGAN", "pix2pix", "gan_lib[spandrel]"):
        assert name in sentence


def without(key: str) -> Callable[[State], State]:
    return lambda state: {name: value for name, value in state.items() if name != key}


def beside(key: str, *shape: int) -> Callable[[State], State]:
    return lambda state: state | {key: torch.zeros(shape)}


WRONG: dict[str, tuple[Callable[[], nn.Module], Callable[[State], State], str]] = {
    "a key is missing": (BasicRRDBNet, without("body.1.rdb2.conv3.bias"), "lacks 1 keys (body.1.rdb2.conv3.bias)"),
    "a block is missing": (
        lambda: OldESRGAN(blocks=3),
        lambda state: {key: value for key, value in state.items() if ".sub.1." not in key},
        "lacks 32 keys",
    ),
    "the last layer is missing": (BasicRRDBNet, without("conv_last.weight"), "it lacks conv_"),
    "the first layer of a U-Net's end": (Unet, without("model.model.3.weight"), "lacks model.model.3.weight"),
    "a key too many": (Compact, beside("extra.weight", 1), "holds 1 that SRVGGNetCompact"),
    "ESRGAN+'s short cuts": (OldESRGAN, beside("model.1.sub.0.RDB1.conv1x1.weight", 4, 8, 1, 1), "holds 1 that RRDB"),
    "a shape": (MSRResNet, beside("conv_hr.weight", 8, 8, 5, 5), "conv_hr.weight has the shape (8, 8, 5, 5), where"),
    "too few dimensions": (BasicRRDBNet, beside("conv_first.weight", 8), "conv_first.weight has the shape (8,)"),
    "channels of no scale": (BasicRRDBNet, beside("conv_first.weight", 8, 7, 3, 3), "takes 7 channels and gives 3"),
    "shrunk by more than it grows": (
        BasicRRDBNet,
        beside("conv_first.weight", 8, 192, 3, 3),
        "shrinks by 8 and enlarges by 4",
    ),
    "values of no scale": (Compact, beside("body.8.weight", 50, 8, 3, 3), "no whole scale"),
    "activations without weights": (
        lambda: Compact(num_conv=2),
        lambda state: {key: value for key, value in state.items() if key not in ("body.3.weight",)},
        "where convolutions and PReLUs take turns",
    ),
    "an enlargement by 5": (MSRResNet, beside("upconv1.weight", 200, 8, 3, 3), "enlarges 2 times by 5"),
    "sizes that lie": (BasicRRDBNet, beside("conv_first.weight", 60_000, 3, 3, 3), "has the shape"),
    "no channels": (Compact, beside("body.0.weight", 8, 0, 3, 3), "no whole scale"),
    "no norm": (
        lambda: Resnet(batch_norm),
        lambda state: {key: value for key, value in state.items() if value.dim() == 4 or key == "model.19.bias"},
        "it has no norm",
    ),
    "another norm's bias": (Unet, beside("model.model.0.bias", 2), "holds 1 that U-Net"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_only_looks_like_a_format_is_told_what_does_not_fit(name: str, tmp_path: Path):
    build, spoil, sentence = WRONG[name]
    told = refusal(saved(spoil(randomised(build()).state_dict())), tmp_path)
    assert " looks like " in told and sentence in told


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(value: float, tmp_path: Path):
    state = randomised(Compact()).state_dict()
    state["body.2.weight"][0, 0, 0, 0] = value
    assert "'body.2.weight' that are not finite" in refusal(saved(state), tmp_path)


def test_no_file_is_larger_or_unpacks_to_more_than_allowed(tmp_path: Path):
    large = {"body.0.weight": torch.zeros(1 << 19)}  # 2 MB
    assert "larger than 1 MB: raise max_megabytes" in refusal(saved(large), tmp_path, max_megabytes=1)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(1 << 23))
    assert packed.tell() < 1 << 20
    assert "unpacks to more than 1 MB" in refusal(packed.getvalue(), tmp_path, max_megabytes=1)
    lying = {"body.0.weight": torch.zeros(1).expand(1 << 20, 1 << 20)}  # 4 TB by a stride of 0
    assert "The tensors in" in refusal(saved(lying), tmp_path, max_megabytes=1)


def test_what_is_not_there_and_a_folder_are_told_apart(tmp_path: Path):
    with pytest.raises(PublishedFileError, match=r"There is no file .*nowhere\.pth to import"):
        read_published(str(tmp_path / "nowhere.pth"))
    with pytest.raises(PublishedFileError, match="is a folder: name the file"):
        read_published(str(tmp_path))
