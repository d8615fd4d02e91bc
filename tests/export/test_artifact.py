"""An artifact comes back from disk as it went, runs as its ports say, or is refused with one clear sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_nets import Echo, Enlarger, Inpainter, ReflectingEncoder, StyledByImage
from torch import nn

from gan_lib.export.architecture import Architecture
from gan_lib.export.artifact import Artifact, ArtifactError, Tiling, pad_to_divisor, to_images, to_values
from gan_lib.export.examples import example
from gan_lib.export.ports import (
    KINDS,
    Audio,
    Image,
    Label,
    LabelMap,
    Latent,
    Mask,
    Notes,
    Port,
    Tokens,
    Vector,
    Voxels,
)
from gan_lib.export.receptive_field import receptive_halo

TRUSTED = ("small_nets",)
IMAGE = {"image": Image()}
EVERY_PORT: dict[str, Port] = {
    "image": Image(1, (0.0, 1.0), 4, 32, 48),
    "mask": Mask(),
    "label_map": LabelMap(12, 8),
    "label": Label(2, ("cat", "dog")),
    "vector": Vector(5),
    "latent": Latent((4, 2), "uniform"),
    "tokens": Tokens(("the", "a", "é"), 7, ""),
    "audio": Audio(8_000, 1_000),
    "notes": Notes(88, 16),
    "voxels": Voxels(6),
}


@pytest.fixture
def artifact() -> Artifact:
    torch.manual_seed(0)
    net = Enlarger(channels=6).eval()
    return Artifact(net, Architecture.of(Enlarger, channels=6), IMAGE, IMAGE, Tiling(2, receptive_halo(net)))


def echo(**ports: Port) -> Artifact:
    tiling = Tiling(1, None) if isinstance(next(iter(ports.values())), Image) else None
    return Artifact(Echo(), Architecture.of(Echo), ports, ports, tiling)


def test_what_was_saved_comes_back_bit_for_bit(artifact: Artifact, tmp_path: Path) -> None:
    artifact.net.layers[1].running_mean.normal_()
    artifact.save(tmp_path / "model")
    back = Artifact.load(tmp_path / "model", TRUSTED)
    assert back.description == artifact.description
    assert (back.scale, back.size_divisor, back.halo) == (2, 1, 3)
    for name, value in artifact.net.state_dict().items():
        assert torch.equal(back.net.state_dict()[name], value)
    images = torch.randint(0, 256, (2, 3, 9, 7), dtype=torch.uint8)
    assert torch.equal(back.translate(images), artifact.translate(images))


def test_every_kind_of_port_comes_back_with_all_that_it_says(tmp_path: Path) -> None:
    assert EVERY_PORT.keys() == KINDS.keys()
    echo(**EVERY_PORT).save(tmp_path)
    back = Artifact.load(tmp_path, TRUSTED)
    assert back.inputs == back.outputs == EVERY_PORT
    assert list(back.inputs) == list(EVERY_PORT)  # their order is that of the net's arguments
    tensors = {name: example(port) for name, port in EVERY_PORT.items()}
    assert all(torch.equal(value, tensors[name]) for name, value in back.run(tensors).items())


def test_parameters_that_a_net_shares_are_saved(tmp_path: Path) -> None:
    net = Enlarger()
    net.layers[3].bias = nn.Parameter(net.layers[0].bias.detach().repeat(3))
    net.layers[1].bias = net.layers[0].bias
    Artifact(net, Architecture.of(Enlarger), IMAGE, IMAGE, Tiling(2, 3)).save(tmp_path)
    assert torch.equal(Artifact.load(tmp_path, TRUSTED).net.layers[1].bias, net.layers[0].bias)


def test_loading_leaves_the_random_state_as_it_was(artifact: Artifact, tmp_path: Path) -> None:
    artifact.save(tmp_path)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    Artifact.load(tmp_path, TRUSTED)
    assert torch.equal(torch.rand(1), expected)


def test_a_loaded_net_is_in_evaluation_mode_and_its_weights_are_mapped(artifact: Artifact, tmp_path: Path) -> None:
    artifact.save(tmp_path)
    net = Artifact.load(tmp_path, TRUSTED).net
    assert not any(module.training for module in net.modules())
    assert str(tmp_path / "weights.safetensors") in Path("/proc/self/maps").read_text()


def test_a_killed_save_leaves_no_description(artifact: Artifact, tmp_path: Path, monkeypatch: Any) -> None:
    def die(*arguments: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr("gan_lib.export.description.Description.to_json", die)
    with pytest.raises(KeyboardInterrupt):
        artifact.save(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["weights.safetensors"]


@pytest.mark.parametrize("value_range", [(-1.0, 1.0), (0.0, 1.0), (0.0, 255.0)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_levels_survive_the_way_into_values_and_back(value_range: tuple[float, float], dtype: torch.dtype) -> None:
    port = Image(1, value_range)
    levels = torch.arange(torch.iinfo(dtype).max + 1).to(dtype).view(1, 1, 16, -1)
    values = to_values(levels, port)
    assert (values.min(), values.max()) == pytest.approx(value_range)
    assert to_images(values, port, dtype).tolist() == levels.tolist()


def test_values_outside_the_range_are_clipped_and_do_not_wrap() -> None:
    assert to_images(torch.tensor([-1.5, 1.5]), Image()).tolist() == [0, 255]


def test_the_image_that_comes_out_may_have_another_range_and_number_of_channels() -> None:
    net = nn.Conv2d(3, 1, 1)
    nn.init.constant_(net.weight, 1 / 6)  # the mean of [-1, 1], halved, and then moved to [0, 1]
    nn.init.constant_(net.bias, 0.5)
    grey = {"grey": Image(1, (0.0, 1.0))}
    artifact = Artifact(net, Architecture("torch.nn", "Conv2d"), IMAGE, grey, Tiling(1, 0))
    images = torch.tensor([0, 30, 60], dtype=torch.uint8).view(1, 3, 1, 1)
    assert artifact.translate(images).flatten().tolist() == [30]


def test_a_size_the_net_cannot_take_is_padded_and_cropped() -> None:
    image = {"image": Image(size_divisor=4)}
    artifact = Artifact(ReflectingEncoder().eval(), Architecture.of(ReflectingEncoder), image, IMAGE, Tiling(1, 12))
    images = torch.randint(0, 256, (1, 3, 17, 30), dtype=torch.uint8)
    assert artifact.translate(images).shape == images.shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.int64])
def test_padding_repeats_the_last_row_and_column(dtype: torch.dtype) -> None:
    values = torch.arange(6).view(2, 3).to(dtype)
    assert pad_to_divisor(values, 4).tolist() == [[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [3, 4, 5, 5]]
    assert pad_to_divisor(values, 1) is values


def test_a_mask_is_padded_with_its_image() -> None:
    inputs = {"image": Image(size_divisor=8), "mask": Mask()}
    artifact = Artifact(Inpainter(), Architecture.of(Inpainter), inputs, IMAGE, Tiling(1, 8))
    images = torch.randint(0, 256, (1, 3, 9, 7), dtype=torch.uint8)
    assert artifact.translate(images, {"mask": torch.ones(1, 1, 9, 7)}).shape == images.shape


def test_a_style_image_keeps_its_own_size() -> None:
    inputs = {"image": Image(size_divisor=8), "style": Image()}
    artifact = Artifact(StyledByImage(), Architecture.of(StyledByImage), inputs, IMAGE, Tiling(1, 8))
    images, style = torch.randint(0, 256, (1, 3, 9, 7), dtype=torch.uint8), torch.rand(1, 3, 5, 5)
    padded = artifact.net(pad_to_divisor(to_values(images, Image()), 8), style)[..., :9, :7]
    assert torch.equal(artifact.translate(images, {"style": style}), to_images(padded, Image()))


def test_what_is_no_map_of_the_image_is_not_padded() -> None:
    class Shapes(nn.Module):
        def forward(self, image: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
            self.seen = [tuple(other.shape) for other in others]
            return image

    net = Shapes()
    inputs = {"image": Image(size_divisor=8), "classes": LabelMap(3), "latent": Latent((2, 5)), "roll": Notes(12, 3)}
    artifact = Artifact(net, Architecture.of(Echo), inputs, IMAGE, Tiling(1, 8))
    others = {"classes": torch.zeros(1, 9, 7).long(), "latent": torch.zeros(1, 2, 5), "roll": torch.zeros(1, 12, 3)}
    artifact.translate(torch.zeros(1, 3, 9, 7, dtype=torch.uint8), others)
    assert net.seen == [(1, 16, 8), (1, 2, 5), (1, 12, 3)]


def test_an_input_that_is_missing_is_named() -> None:
    artifact = Artifact(Inpainter(), Architecture.of(Inpainter), {**IMAGE, "mask": Mask()}, IMAGE, Tiling(1, 3))
    with pytest.raises(ArtifactError, match="needs its input mask"):
        artifact.translate(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


def test_a_net_with_another_number_of_results_than_outputs_is_refused() -> None:
    artifact = Artifact(Echo(), Architecture.of(Echo), {"z": Latent((2,)), "y": Label(2)}, {"label": Label(2)})
    with pytest.raises(ArtifactError, match="gives 2 results for 1 outputs"):
        artifact.run({"z": torch.zeros(1, 2), "y": torch.zeros(1)})


def test_what_translates_no_image_says_so() -> None:
    with pytest.raises(ArtifactError, match="does not translate images"):
        echo(z=Latent((2,))).translate(torch.zeros(1, 3, 4, 4, dtype=torch.uint8))


CONTRADICTIONS: list[tuple[Callable[[], object], str]] = [
    (lambda: Artifact(Echo(), Architecture.of(Echo), IMAGE, IMAGE), "needs a tiling"),
    (lambda: Artifact(Echo(), Architecture.of(Echo), {"z": Latent((2,))}, IMAGE, Tiling(1, 0)), "Only an artifact"),
    (lambda: Artifact(Echo(), Architecture.of(Echo), {}, IMAGE), "needs inputs"),
    (lambda: Artifact(Echo(), Architecture.of(Echo), IMAGE, {}), "needs outputs"),
    (lambda: echo(seed=Label(2)), "'seed' among the inputs is no name"),
    (lambda: Artifact(Echo(), Architecture.of(Echo), IMAGE, IMAGE, Tiling(0, 0)), "scale must be 1 or more"),
    (
        lambda: Artifact(Echo(), Architecture.of(Echo), {"image": Image(size_divisor=4)}, IMAGE, Tiling(1, 6)),
        "halo 6 must be a multiple of 4",
    ),
    (lambda: Image(value_range=(1.0, -1.0)), "must rise"),
    (lambda: Image(value_range=(0.0, float("nan"))), "must rise"),
    (lambda: Image(size_divisor=0), "size_divisor of a port of kind image must be 1 or more"),
    (lambda: Label(3, ("cat", "dog")), "3 classes has 2 names"),
    (lambda: Latent((4, 0)), "shape of a port of kind latent must be 1 or more"),
    (lambda: Tokens((), 4), "vocabulary"),
    (lambda: Architecture.of(Enlarger, channels=nn.ReLU()), "must be JSON values"),
]


@pytest.mark.parametrize(("build", "sentence"), CONTRADICTIONS, ids=[sentence for _, sentence in CONTRADICTIONS])
def test_a_contradiction_is_found_when_it_is_made(build: Callable[[], object], sentence: str) -> None:
    with pytest.raises(ArtifactError, match=sentence):
        build()


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "artifact.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def port(**changes: Any) -> list[dict[str, Any]]:
    return [{"name": "image", "kind": "image", **changes}]


def net(name: str, **arguments: Any) -> dict[str, Any]:
    return {"module": "small_nets", "name": name, "arguments": arguments}


DAMAGES: list[tuple[Callable[[Path], object], str]] = [
    (lambda folder: (folder / "artifact.json").unlink(), "holds no artifact"),
    (lambda folder: (folder / "artifact.json").write_text("{"), "cannot be read"),
    (lambda folder: (folder / "artifact.json").write_bytes(b"\xff\xfe"), "cannot be read"),
    (lambda folder: (folder / "artifact.json").write_text("[" * 100_000), "cannot be read"),
    (lambda folder: (folder / "artifact.json").write_text("[]"), "another version"),
    (lambda folder: edit(folder, format=1), "another version"),
    (lambda folder: (folder / "weights.safetensors").unlink(), "has no weights"),
    (lambda folder: (folder / "weights.safetensors").write_bytes(b"\x80\x04pickle"), "does not hold the weights"),
    (lambda folder: edit(folder, architecture=net("Enlarger", channels=5)), "does not hold the weights"),
    (lambda folder: edit(folder, tiling={"scale": "two", "halo": 3}), "scale of Tiling: input should be a valid int"),
    (lambda folder: edit(folder, tiling={"scale": 2}), "halo of Tiling: field required"),
    (lambda folder: edit(folder, tiling=None), "needs a tiling"),
    (lambda folder: edit(folder, inputs={}), "must be lists of ports"),
    (lambda folder: edit(folder, inputs=[]), "needs inputs"),
    (lambda folder: edit(folder, inputs=[{"name": "image"}]), "'kind' is missing"),
    (lambda folder: edit(folder, inputs=port(kind="smell")), "'smell' is no kind of port"),
    (lambda folder: edit(folder, inputs=port(kind=[])), "is no kind of port"),
    (lambda folder: edit(folder, inputs=port() * 2), "names two"),
    (lambda folder: edit(folder, inputs=port(channels="3")), "channels of Image"),
    (lambda folder: edit(folder, inputs=port(channels=0)), "channels of a port of kind image must be 1 or more"),
    (lambda folder: edit(folder, inputs=port(value_range=[1])), "value_range.* of Image"),
    (lambda folder: edit(folder, inputs=port(colour="red")), "Image has the keys channels"),
    (lambda folder: edit(folder, inputs=port(name="../../x")), "no name of a port"),
    (lambda folder: edit(folder, architecture=["small_nets"]), "Architecture has the keys arguments, module, name"),
    (lambda folder: edit(folder, architecture=net("Enlarger", x=1)), "refuses its saved arguments"),
    (lambda folder: edit(folder, architecture=net("Enlarger", channels=-1)), "refuses its saved arguments"),
    (lambda folder: edit(folder, architecture=net("torch")), "not a net"),
    (lambda folder: edit(folder, architecture=net("Nowhere")), "not installed here"),
    (lambda folder: edit(folder, architecture={"module": "os", "name": "system"}), "outside the trusted"),
    (lambda folder: edit(folder, architecture={"module": "small_nets_too", "name": "X"}), "outside the trusted"),
]


@pytest.mark.parametrize(("damage", "sentence"), DAMAGES, ids=[sentence for _, sentence in DAMAGES])
def test_a_damaged_folder_is_named_in_one_sentence(
    artifact: Artifact, tmp_path: Path, damage: Callable[[Path], object], sentence: str
) -> None:
    artifact.save(tmp_path)
    damage(tmp_path)
    with pytest.raises(ArtifactError, match=sentence) as caught:
        Artifact.load(tmp_path, TRUSTED)
    assert "\n" not in str(caught.value)
