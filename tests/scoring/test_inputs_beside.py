"""What goes into a net beside an image, or instead of one: cut with it or given whole, in the pipeline's batches."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from bad_images import encoded, photo
from PIL import Image as PillowImage

from gan_lib.core.errors import UserError
from gan_lib.core.images import Limits, PixelFormat, decode, encode_png
from gan_lib.export.artifact import Artifact, to_values
from gan_lib.export.ports import Image
from gan_lib.scoring.generation.inputs import latents
from gan_lib.scoring.inputs.decoders import require_image_to_image
from gan_lib.scoring.pipeline import Pipeline, Request
from gan_lib.scoring.predictor import TilePredictor
from gan_lib.scoring.settings import TilingSettings
from tests.scoring.nets_beside import ARTIFACTS, from_noise, strided_inpainter

Row = tuple[bytes, Mapping[str, Any]]  # the image, and what goes in beside it


def score(artifact: Artifact, rows: Sequence[Row], **tiling: int) -> list[Request]:
    def keep(request: Request) -> None:
        request.result = np.array(request.canvas.pixels)  # type: ignore[union-attr]

    requests = [
        Request(str(i), lambda content=content: content, lambda beside=beside: beside)  # type: ignore[misc]
        for i, (content, beside) in enumerate(rows)
    ]
    predictor = TilePredictor(artifact, torch.device("cpu"), TilingSettings(**tiling))
    return list(Pipeline(predictor, Limits(), keep).run(requests))


def tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None]


def expected(artifact: Artifact, content: bytes, **others: torch.Tensor) -> np.ndarray:
    """The whole image's result by the artifact itself."""
    port = artifact.inputs[str(artifact.image_input)]
    image = tensor(decode(content, pixel_format=PixelFormat(port.channels))) if isinstance(port, Image) else None
    if image is None:
        image = torch.from_numpy(np.asarray(PillowImage.open(io.BytesIO(content))).astype(np.int64))[None]
    return artifact.translate(image, others)[0].permute(1, 2, 0).numpy()


def assert_alike(request: Request, wanted: np.ndarray) -> None:
    assert request.reason is None, request.message
    assert request.result.shape == wanted.shape
    assert np.abs(request.result.astype(int) - wanted).max() <= 1
    assert np.count_nonzero(request.result != wanted) <= max(2, wanted.size / 10_000)
    assert wanted.std() > 2, "a net that gives one level all over would pass with any input"


def random_mask(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, (height, width, 1)).astype(np.uint8)


@pytest.mark.parametrize("make", [ARTIFACTS["inpainter"], strided_inpainter], ids=["plain", "strided"])
@pytest.mark.parametrize("tile", [16, 512])
def test_a_mask_is_cut_with_its_image(make, tile: int) -> None:
    artifact = make()
    sizes = [(40, 57), (16, 16), (21, 90), (40, 57)]
    masks = [random_mask(*size, seed=i) for i, size in enumerate(sizes)]
    contents = [encoded("PNG", photo(*size, seed=i)) for i, size in enumerate(sizes)]
    done = score(
        artifact, [(c, {"mask": encode_png(255 * m)}) for c, m in zip(contents, masks, strict=True)], tile=tile
    )
    for request, content, mask in zip(done, contents, masks, strict=True):
        assert_alike(request, expected(artifact, content, mask=tensor(mask).float()))


def test_a_style_image_of_any_size_goes_whole_with_every_tile() -> None:
    artifact = ARTIFACTS["restyler"]()
    content = encoded("PNG", photo(40, 50))
    styles = [photo(12, 20, seed=7), photo(11, 9, seed=8), photo(12, 20, seed=9)]
    done = score(artifact, [(content, {"style": encoded("PNG", style)}) for style in styles], tile=16)
    for request, style in zip(done, styles, strict=True):
        padded = np.pad(style, ((0, style.shape[0] % 2), (0, style.shape[1] % 2), (0, 0)), mode="edge")
        assert_alike(request, expected(artifact, content, style=to_values(tensor(padded), Image())))
    assert not np.array_equal(done[0].result, done[2].result)


def test_tiles_of_other_classes_and_vectors_share_a_batch() -> None:
    artifact = ARTIFACTS["conditioned"]()
    batches: list[int] = []
    artifact.net.register_forward_pre_hook(lambda net, arguments: batches.append(len(arguments[0])))
    rows = [(encoded("PNG", photo(20, 20, seed=i)), {"label": i, "vector": [0.1 * i, -1, 1]}) for i in range(4)]
    done = score(artifact, rows)
    assert batches == [4]
    for request, (content, beside) in zip(done, rows, strict=True):
        others = {"label": torch.tensor([beside["label"]]), "vector": torch.tensor([beside["vector"]])}
        assert_alike(request, expected(artifact, content, **others))


def label_map(height: int, width: int, palette: bool = False) -> bytes:
    image = PillowImage.fromarray(np.random.default_rng(3).integers(0, 12, (height, width), dtype=np.uint8))
    if palette:
        image.putpalette(np.random.default_rng(4).permutation(256).repeat(3).tolist())
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_a_label_map_becomes_an_image_tile_by_tile_with_its_exact_classes() -> None:
    artifact = ARTIFACTS["label_maps"]()
    contents = [label_map(40, 57), label_map(20, 20, palette=True)]
    for request, content in zip(score(artifact, [(c, {}) for c in contents], tile=16), contents, strict=True):
        assert_alike(request, expected(artifact, content))


def test_what_is_no_label_map_of_the_models_classes_is_a_row_with_a_reason() -> None:
    too_many = encode_png(np.full((9, 9, 1), 12, np.uint8))
    rows = [(content, {}) for content in (encoded("PNG"), too_many, label_map(9, 9), encoded("JPEG"))]
    done = score(ARTIFACTS["label_maps"](), rows)
    assert [request.reason for request in done] == ["unsupported", "unfit-input", None, "unsupported"]
    assert "class 12" in str(done[1].message) and "0 to 11" in str(done[1].message)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_grey_net_makes_grey_of_any_image(kind: str) -> None:
    artifact = ARTIFACTS["grey"]()
    contents = [encoded(kind, photo(40, 57)), encoded(kind, photo(40, 57)[:, :, 0])]
    for request, content in zip(score(artifact, [(c, {}) for c in contents], tile=16), contents, strict=True):
        assert request.result.shape == (40, 57, 1)
        assert_alike(request, expected(artifact, content))


def test_a_seed_chooses_among_the_results_and_is_0_by_default() -> None:
    artifact = ARTIFACTS["noisy"]()
    content = encoded("PNG", photo(40, 50))
    port, own = artifact.inputs["latent"], [0.5, -1, 0, 2, 1]
    rows = [(content, beside) for beside in ({}, {"seed": 0}, {"seed": 5}, {"seed": 5, "latent": own})]
    done = score(artifact, rows, tile=16)
    drawn = [latents(port, "latent", [seed]) for seed in (0, 0, 5)]  # type: ignore[arg-type]
    for request, latent in zip(done, [*drawn, torch.tensor([own])], strict=True):
        assert_alike(request, expected(artifact, content, latent=latent))
    assert not np.array_equal(done[0].result, done[2].result)


def test_a_self_ensemble_turns_the_mask_with_the_image_and_nothing_else() -> None:
    pixels, mask = photo(20, 28), random_mask(20, 28)
    upright, turned = (
        score(
            ARTIFACTS["inpainter"](),
            [(encode_png(np.rot90(pixels, k)), {"mask": encode_png(255 * np.rot90(mask, k))})],
            self_ensemble=True,
        )[0]
        for k in (0, 1)
    )
    assert np.abs(np.rot90(turned.result, -1).astype(int) - upright.result).max() <= 1
    style = {"style": encoded("PNG", photo(6, 8))}
    (styled,) = score(ARTIFACTS["restyler"](), [(encode_png(pixels), style)], self_ensemble=True)
    assert styled.reason is None


@pytest.mark.parametrize(
    ("name", "beside", "reason", "said"),
    [
        ("inpainter", {}, "missing-input", "mask"),
        ("inpainter", {"mask": None}, "missing-input", "mask"),
        ("inpainter", {"mask": encoded("PNG", photo(9, 10))}, "unfit-input", "10x9"),
        ("inpainter", {"mask": b"no image"}, "unfit-input", "mask: not-an-image"),
        ("restyler", {"style": b""}, "unfit-input", "style: empty"),
        ("conditioned", {"label": 4, "vector": [1, 2, 3]}, "unfit-input", "0 to 3"),
        ("conditioned", {"label": 1, "vector": [1, 2]}, "unfit-input", "vector"),
        ("conditioned", {"label": float("nan"), "vector": [1, 2, 3]}, "missing-input", "label"),
        ("conditioned", {"label": 1, "vector": [1, 2, float("inf")]}, "unfit-input", "vector"),
        ("noisy", {"seed": "x"}, "unfit-input", "seed"),
    ],
)
def test_what_is_missing_or_does_not_fit_rejects_its_row_alone(
    name: str, beside: dict[str, Any], reason: str, said: str
) -> None:
    content = encoded("PNG", photo(24, 32))
    good = {"mask": encoded("PNG", photo(24, 32)), "style": content, "label": 1, "vector": [0, 0, 0]}
    done = score(ARTIFACTS[name](), [(content, good), (content, beside), (content, good)])
    assert [request.reason for request in done] == [None, reason, None]
    assert said in str(done[1].message)


def test_a_model_that_takes_no_image_is_sent_to_the_job_that_generates() -> None:
    with pytest.raises(UserError, match=r"latent and no image.*jobs/generate\.py"):
        require_image_to_image("models:/m/1", from_noise().description)


def test_memory_that_runs_out_cuts_the_mask_smaller_too(monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = ARTIFACTS["inpainter"]()
    forward = artifact.net.forward

    def hungry(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if image.numel() > 3 * 30 * 30:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return forward(image, mask)

    monkeypatch.setattr(artifact.net, "forward", hungry)
    mask, content = random_mask(60, 70), encoded("PNG", photo(60, 70))
    (done,) = score(artifact, [(content, {"mask": encode_png(255 * mask)})])
    monkeypatch.undo()
    assert_alike(done, expected(artifact, content, mask=tensor(mask).float()))
