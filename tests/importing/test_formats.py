"""What others published computes here what it computed there, and a stated halo is enough for tiles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from public_nets import (
    ESRGAN,
    BasicRRDBNet,
    Compact,
    MSRResNet,
    OldESRGAN,
    Resnet,
    Unet,
    batch_norm,
    randomised,
)
from torch import Tensor, nn

from gan_lib.export.artifact import Artifact, to_values
from gan_lib.export.ports import Image
from gan_lib.importing.reading import PublishedFileError, read_published
from gan_lib.importing.recognition import FORMATS, Imported, import_known
from gan_lib.importing.settings import ChoiceSettings
from gan_lib.nets.cyclegan import ResnetGenerator

# What is published -> a word of what it is recognised as, its scale, and the part of an image that it needs whole.
ENLARGERS: dict[str, tuple[Callable[[], nn.Module], str, int, int]] = {
    "ESRGAN, old keys": (OldESRGAN, "old key names", 4, 1),
    "ESRGAN x2, old keys": (lambda: OldESRGAN(upscale=2, blocks=1), "RRDBNet x2", 2, 1),
    "ESRGAN x8, old keys, grey": (lambda: OldESRGAN(upscale=8, blocks=1, channels=1), "RRDBNet x8", 8, 1),
    "ESRGAN x1, old keys": (lambda: OldESRGAN(upscale=1, blocks=3), "RRDBNet x1, 3 blocks", 1, 1),
    "ESRGAN": (ESRGAN, "ESRGAN (RRDBNet)", 4, 1),
    "Real-ESRGAN x4": (BasicRRDBNet, "RRDBNet x4, 2 blocks of 8 channels", 4, 1),
    "Real-ESRGAN x2": (lambda: BasicRRDBNet(2), "RRDBNet x2", 2, 2),
    "Real-ESRGAN x1": (lambda: BasicRRDBNet(1, blocks=1), "RRDBNet x1", 1, 4),
    "Real-ESRGAN's compact net x4": (Compact, "SRVGGNetCompact x4, 3 convolutions of 8", 4, 1),
    "Real-ESRGAN's compact net x2, grey": (lambda: Compact(2, channels=1), "SRVGGNetCompact x2", 2, 1),
    "BasicSR's SRResNet x4": (MSRResNet, "MSRResNet x4, 2 blocks of 8", 4, 1),
    "BasicSR's SRResNet x3": (lambda: MSRResNet(3), "MSRResNet x3", 3, 1),
    "BasicSR's SRResNet x2": (lambda: MSRResNet(2), "MSRResNet x2", 2, 1),
    "MMSR's SRResNet": (lambda: MSRResNet(old=True), "MMSR's SRResNet", 4, 1),
}
TRANSLATORS: dict[str, tuple[Callable[[], nn.Module], str, int]] = {
    "CycleGAN": (Resnet, "ResNet generator, 2 blocks, 4 channels, instance norm", 4),
    "CycleGAN with dropout": (lambda: Resnet(dropout=True, blocks=3), "3 blocks", 4),
    "CycleGAN, grey to colour": (lambda: Resnet(channels=(1, 3)), "instance norm", 4),
    "ResNet, batch norm": (lambda: Resnet(batch_norm), "running norm", 4),
    "ResNet, batch norm, dropout": (lambda: Resnet(batch_norm, dropout=True), "running norm", 4),
    "pix2pix": (Unet, "U-Net, 5 halvings, 2 channels, running norm", 32),
    "pix2pix, 6 halvings, colour to grey": (lambda: Unet(num_downs=6, channels=(3, 1)), "6 halvings", 64),
    "pix2pix, instance norm": (lambda: Unet(norm=instance), "instance norm", 32),
}


def instance(channels: int) -> nn.Module:
    return nn.InstanceNorm2d(channels)


def published(net: nn.Module, folder: Path) -> Path:
    torch.save(net.state_dict(), folder / "net.pth")
    return folder / "net.pth"


def imported(path: Path, **choices: Any) -> Imported:
    return import_known(read_published(str(path)), ChoiceSettings(**choices))


def levels(channels: int, height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (1, channels, height, width), generator=torch.Generator().manual_seed(1)).byte()


@torch.inference_mode()
def check_same(artifact: Artifact, net: nn.Module, height: int, width: int, folder: Path) -> None:
    """Saved and loaded again, ``artifact`` gives the bits that ``net`` gives."""
    artifact.save(folder / "artifact")
    loaded = Artifact.load(folder / "artifact")
    port = loaded.inputs["image"]
    assert isinstance(port, Image)
    values = to_values(levels(port.channels, height, width), port)
    expected = net(values.clone())
    assert expected.std() > 1e-3, "a net that gives one colour would prove nothing"
    assert torch.equal(loaded.net(values), expected)
    assert loaded.description == artifact.description


@pytest.mark.parametrize("name", ENLARGERS)
def test_an_enlarging_net_gives_the_same_bits_as_its_publishers(name: str, tmp_path: Path):
    build, description, scale, size_divisor = ENLARGERS[name]
    net = randomised(build())
    found = imported(published(net, tmp_path))
    artifact = found.artifact
    assert description in found.format and artifact.scale == scale and artifact.size_divisor == size_divisor
    assert artifact.inputs["image"].value_range == artifact.outputs["image"].value_range == (0.0, 1.0)
    check_same(artifact, net, 12, 16, tmp_path)


@pytest.mark.parametrize("name", TRANSLATORS)
def test_a_translating_net_gives_the_same_bits_as_its_publishers_in_evaluation(name: str, tmp_path: Path):
    build, description, size_divisor = TRANSLATORS[name]
    net = build()
    if "pix2pix, instance norm" in name:
        net = with_biases(net)
    net = randomised(net)
    found = imported(published(net, tmp_path), batch_norm="running")
    artifact = found.artifact
    assert description in found.format and artifact.scale == 1 and artifact.size_divisor == size_divisor
    assert artifact.inputs["image"].value_range == artifact.outputs["image"].value_range == (-1.0, 1.0)
    assert (artifact.halo is None) == ("instance" in found.format)
    check_same(artifact, net, 64, 128, tmp_path)


def with_biases(net: nn.Module) -> nn.Module:
    """The public U-Net gives its convolutions biases where its norm is instance norm."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.bias is None:
            module.bias = nn.Parameter(torch.zeros(module.out_channels))
    return net


@pytest.mark.parametrize("build", [lambda: Resnet(batch_norm), Unet])
@torch.inference_mode()
def test_batch_norm_by_each_image_is_what_the_public_test_script_computes_without_eval(build, tmp_path: Path):
    net = randomised(build())
    path = published(net, tmp_path)
    artifact = imported(path, batch_norm="own").artifact
    assert artifact.halo is None
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()  # dropout stays away: it is the one thing of --eval that is not a choice
    values = to_values(levels(3, 64, 64), artifact.inputs["image"])
    torch.testing.assert_close(artifact.net(values), net(values.clone()), rtol=1e-5, atol=1e-6)


def test_only_batch_norm_is_asked_for(tmp_path: Path):
    with pytest.raises(PublishedFileError, match=r"set choices\.batch_norm to running .* or to own"):
        imported(published(Unet(), tmp_path))
    assert isinstance(imported(published(Resnet(), tmp_path)).artifact.net, ResnetGenerator)


def test_running_statistics_of_instance_norm_are_thrown_away_as_the_public_scripts_do(tmp_path: Path):
    net = randomised(Resnet())
    state = net.state_dict()
    for place, layer in net.named_modules():
        if isinstance(layer, nn.InstanceNorm2d):
            state |= {f"{place}.running_mean": torch.ones(layer.num_features)}
            state |= {f"{place}.running_var": torch.ones(layer.num_features)}
            state |= {f"{place}.num_batches_tracked": torch.tensor(3)}
    torch.save(state, tmp_path / "old.pth")
    check_same(imported(tmp_path / "old.pth").artifact, net, 16, 24, tmp_path)


def test_batch_norm_of_before_it_counted_batches_is_known(tmp_path: Path):
    net = randomised(Unet())
    state = {key: value for key, value in net.state_dict().items() if "num_batches" not in key}
    torch.save(state, tmp_path / "old.pth")
    check_same(imported(tmp_path / "old.pth", batch_norm="running").artifact, net, 32, 32, tmp_path)


def data_parallel(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"module.{key}": value for key, value in state.items()}


WRAPPED: dict[str, Callable[[dict[str, Tensor], dict[str, Tensor]], Any]] = {
    "params_ema before params": lambda state, other: {"params": other, "params_ema": state},
    "params alone": lambda state, other: {"params": state, "iter": 5},
    "state_dict beside numbers": lambda state, other: {"epoch": 3, "state_dict": data_parallel(state)},
    "the only one": lambda state, other: {"weights of mine": state},
    "DataParallel": lambda state, other: data_parallel(state),
}


@pytest.mark.parametrize("wrapping", WRAPPED)
def test_weights_are_found_in_what_training_scripts_wrap_them_in(wrapping: str, tmp_path: Path):
    net, other = (randomised(Compact(), seed) for seed in (0, 1))
    torch.save(WRAPPED[wrapping](net.state_dict(), other.state_dict()), tmp_path / "net.pth")
    check_same(imported(tmp_path / "net.pth").artifact, net, 8, 9, tmp_path)


def test_of_several_sets_of_weights_one_is_named(tmp_path: Path):
    net, other = (randomised(Compact(), seed) for seed in (0, 1))
    torch.save({"best": other.state_dict(), "last": net.state_dict()}, tmp_path / "net.pth")
    with pytest.raises(PublishedFileError, match=r"several sets of weights: name one by entry = best \| last"):
        read_published(str(tmp_path / "net.pth"))
    with pytest.raises(PublishedFileError, match="no weights called entry = 'first'; it holds: 'best', 'last'"):
        read_published(str(tmp_path / "net.pth"), entry="first")
    found = import_known(read_published(str(tmp_path / "net.pth"), entry="last"))
    check_same(found.artifact, net, 8, 9, tmp_path)


@pytest.mark.parametrize("container", ["legacy", "safetensors", "half"])
def test_other_containers_of_the_same_keys_are_read(container: str, tmp_path: Path):
    net = randomised(BasicRRDBNet(blocks=1))
    path = tmp_path / "net.pth"
    if container == "legacy":  # torch before 1.6, as ESRGAN's own files
        torch.save(net.state_dict(), path, _use_new_zipfile_serialization=False)
    elif container == "safetensors":
        safetensors.torch.save_file(net.state_dict(), path)
    else:
        net = net.half().float()
        torch.save({key: value.half() for key, value in net.state_dict().items()}, path)
    check_same(imported(path).artifact, net, 8, 8, tmp_path)


@pytest.mark.parametrize(
    ("build", "halo", "size"),
    [
        (lambda: OldESRGAN(blocks=1), 19, (48, 44)),
        (lambda: BasicRRDBNet(2, blocks=1), 38, (96, 80)),
        (Compact, 5, (20, 40)),
        (MSRResNet, 7, (24, 20)),
        (lambda: Resnet(batch_norm), 28, (128, 64)),
        (lambda: Unet(width=1), 64, (256, 192)),
    ],
)
@torch.inference_mode()
def test_tiles_a_halo_apart_give_the_whole_images_result(build, halo: int, size: tuple[int, int], tmp_path: Path):
    artifact = imported(published(randomised(build()), tmp_path), batch_norm="running").artifact
    assert artifact.halo == halo
    image = to_values(levels(3, *size), artifact.inputs["image"])
    expected, scale = artifact.net(image), artifact.scale
    for axis in (-2, -1):
        cut = size[axis] // 2
        assert cut > halo and cut % artifact.size_divisor == 0
        before = artifact.net(image.narrow(axis, 0, cut + halo)).narrow(axis, 0, cut * scale)
        after = artifact.net(image.narrow(axis, cut - halo, size[axis] - cut + halo))
        after = after.narrow(axis, halo * scale, (size[axis] - cut) * scale)
        torch.testing.assert_close(torch.cat([before, after], dim=axis), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_real_esrgans_full_net_sees_349_pixels_far(tmp_path: Path):
    artifact = imported(published(BasicRRDBNet(4, 64, 32, 23), tmp_path)).artifact
    assert artifact.halo == 349
    assert sum(value.numel() for value in artifact.net.state_dict().values()) == 16_697_987


def test_no_file_has_the_hallmarks_of_two_formats():
    builders = [build for build, *_ in [*ENLARGERS.values(), *TRANSLATORS.values()]]
    for build in builders:
        keys = build().state_dict().keys()
        assert sum(all(hallmark in keys for hallmark in each.hallmarks) for each in FORMATS) == 1
