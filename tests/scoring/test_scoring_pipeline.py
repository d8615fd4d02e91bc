"""Images through the pipeline: every one comes out, in order, whole or with a reason, a few in memory at a time."""

from __future__ import annotations

import errno
import io
import threading
from collections.abc import Callable, Iterable

import numpy as np
import pytest
import torch
from bad_images import bad_contents, encoded, photo
from PIL import Image as PillowImage
from scoring_nets import EXACT, enlarger, unbuilt, whole_image_net
from torch import Tensor, nn

from gan_lib.core.errors import MachineInTrouble, StoreUnavailable
from gan_lib.core.images import Limits, decode, encode_png
from gan_lib.export.artifact import Artifact
from gan_lib.scoring.pipeline import READ_AHEAD, UNAVAILABLE, Pipeline, Request
from gan_lib.scoring.predictor import OutOfMemory, TilePredictor
from gan_lib.scoring.settings import TilingSettings

CPU = torch.device("cpu")


def keep_pixels(image: Request) -> None:
    image.result = pixels_of(image)


def pixels_of(image: Request) -> np.ndarray:
    canvas = image.canvas
    if hasattr(canvas, "path"):
        with open(canvas.path, "rb") as file:
            return np.frombuffer(file.read(), np.uint8).reshape(canvas.height, canvas.width, 3)
    return canvas.pixels


def score(artifact: Artifact, contents: Iterable[bytes], limits: Limits | None = None, **tiling: int) -> list[Request]:
    predictor = TilePredictor(artifact, CPU, TilingSettings(**tiling))
    requests = [Request(str(i), lambda content=content: content) for i, content in enumerate(contents)]
    return list(Pipeline(predictor, limits or Limits(), keep_pixels).run(requests))


def whole_result(artifact: Artifact, content: bytes) -> np.ndarray:
    batch = torch.from_numpy(decode(content).copy()).permute(2, 0, 1)[None]
    return artifact.translate(batch)[0].permute(1, 2, 0).numpy()


def assert_same_but_for_ties(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert np.count_nonzero(found != expected) <= max(2, found.size / 100_000)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("canvas_megabytes", [256, 1])
def test_cut_batched_and_put_together_it_is_the_whole_images_result(name: str, canvas_megabytes: int) -> None:
    artifact = EXACT[name]()
    sizes = [(200, 310), (64, 64), (33, 257), (1, 1), (64, 64), (5, 90), (200, 310)]
    contents = [encoded("PNG", photo(*size, seed=i)) for i, size in enumerate(sizes)]
    done = score(artifact, contents, tile=64, canvas_megabytes=canvas_megabytes)
    assert [image.key for image in done] == [str(i) for i in range(len(sizes))]
    for image, content in zip(done, contents, strict=True):
        assert image.reason is None
        assert_same_but_for_ties(image.result, whole_result(artifact, content))


def counting(artifact: Artifact) -> tuple[Artifact, list[tuple[int, ...]]]:
    shapes: list[tuple[int, ...]] = []
    artifact.net.register_forward_pre_hook(lambda net, arguments: shapes.append(tuple(arguments[0].shape)))
    return artifact, shapes


def test_tiles_of_many_images_share_a_batch() -> None:
    artifact, shapes = counting(enlarger())
    contents = [encoded("PNG", photo(32, 32, seed=i)) for i in range(20)]
    score(artifact, contents, batch_pixels=8 * 32 * 32)
    assert [shape[0] for shape in shapes] == [8, 8, 4]


def test_images_of_other_shapes_do_not_break_a_batch_apart() -> None:
    artifact, shapes = counting(enlarger())
    contents = [encoded("PNG", photo(32, 32 + 16 * (i % 2), seed=i)) for i in range(8)]
    done = score(artifact, contents, batch_pixels=6 * 32 * 48)
    assert sorted(shape[0] for shape in shapes) == [4, 4]
    assert [image.result.shape[1] for image in done] == [128, 192] * 4


def test_a_batch_is_run_before_it_is_full_where_its_open_results_take_too_much_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gan_lib.scoring.pipeline.OPEN_BYTES", 4 * 32 * 32 * 3)
    artifact = hungry(10**9)
    contents = [encoded("PNG", photo(32, 32, seed=i)) for i in range(20)]
    done = score(artifact, contents, batch_pixels=100 * 32 * 32)
    assert artifact.net.seen == [5] * 4
    assert all(np.array_equal(p.result, decode(c)) for p, c in zip(done, contents, strict=True))


@pytest.mark.parametrize("size", [(1, 1), (3, 700), (90, 61), (700, 300)])
def test_png_brings_every_pixel_back(size: tuple[int, int]) -> None:
    for pixels in (photo(*size), np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)):
        assert np.array_equal(decode(encode_png(pixels)), pixels)
        assert np.array_equal(decode(encode_png(pixels[::-1])), pixels[::-1])
        assert np.array_equal(decode(encode_png(pixels[..., :1])), np.repeat(pixels[..., :1], 3, axis=2))


class HungryNet(nn.Module):
    """Enlarges by repetition, and has memory for ``most`` input values at a time."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.seen: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        if images.numel() > self.most:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory")
        self.seen.append(len(images))
        return images


def hungry(most: int, halo: int | None = 2) -> Artifact:
    return unbuilt(HungryNet(most), halo)


def test_out_of_memory_halves_the_batch_and_stays_there() -> None:
    artifact = hungry(most=3 * 16 * 16 * 3)
    contents = [encoded("PNG", photo(16, 16, seed=i)) for i in range(16)]
    done = score(artifact, contents, batch_pixels=8 * 16 * 16)
    assert all(np.array_equal(p.result, decode(c)) for p, c in zip(done, contents, strict=True))
    assert artifact.net.seen == [2] * 8


def test_out_of_memory_for_one_tile_cuts_it_smaller() -> None:
    content = encoded("PNG", photo(100, 130))
    (done,) = score(hungry(most=3 * 40 * 40), [content])
    assert done.reason is None
    assert np.array_equal(done.result, decode(content))


@pytest.mark.parametrize(
    ("most", "halo"), [(3, 2), (3 * 40 * 40, None)], ids=["nothing fits", "no halo, no smaller tile"]
)
def test_what_never_fits_is_a_row_with_a_reason_and_the_next_goes_on(most: int, halo: int | None) -> None:
    small = encoded("PNG", photo(1, 1))
    done = score(hungry(most, halo), [encoded("PNG", photo(60, 60)), small])
    assert [image.reason for image in done] == ["out-of-memory", None]


def test_a_generator_says_when_a_single_tile_is_too_much() -> None:
    with pytest.raises(OutOfMemory, match="9x7"):
        TilePredictor(hungry(most=1), CPU, TilingSettings()).run([torch.zeros(2, 3, 9, 7, dtype=torch.uint8)])


def test_thirty_bad_files_are_rows_with_a_reason_and_the_good_ones_between_are_scored() -> None:
    artifact, limits = enlarger(), Limits(max_bytes=200_000, max_pixels=250_000, min_side=4)
    good = encoded("JPEG")
    bad = bad_contents()
    assert len(bad) >= 30
    contents = [content for pair in zip(bad.values(), [good] * len(bad), strict=True) for content in pair]
    done = score(artifact, contents, limits)
    reasons = dict(zip(bad, (image.reason for image in done[::2]), strict=True))
    assert all(reasons.values()), reasons
    assert {reasons[name] for name in ("bomb.png", "too-many-pixels.jpg")} == {"too-many-pixels"}
    assert reasons["empty.jpg"] == "empty" and reasons["too-small.png"] == "too-small"
    assert all(image.result is None and image.canvas is None for image in done[::2])
    expected = whole_result(artifact, good)
    for image in done[1::2]:
        assert_same_but_for_ties(image.result, expected)


class AllergicNet(nn.Module):
    """Fails on images whose first pixel is white."""

    def forward(self, images: Tensor) -> Tensor:
        if (images[:, :, 0, 0] == 1).all(dim=1).any():
            raise ValueError("too bright")
        return images


def test_a_net_that_fails_on_one_image_loses_only_that_one() -> None:
    artifact = unbuilt(AllergicNet(), halo=0)
    white = np.full((16, 16, 3), 255, np.uint8)
    contents = [encoded("PNG", white if i == 3 else photo(16, 16, seed=i) // 2) for i in range(6)]
    done = score(artifact, contents)
    assert [image.reason for image in done] == [None, None, None, "failed", None, None]
    assert "too bright" in str(done[3].message)


def test_only_a_few_images_are_read_ahead() -> None:
    opened = 0
    finished = 0
    most = 0
    lock = threading.Lock()
    content = encoded("PNG", photo(200, 200))

    def read() -> bytes:
        nonlocal opened, most
        with lock:
            opened += 1
            most = max(most, opened - finished)
        return content

    images = (Request(str(i), read) for i in range(120))
    pipeline = Pipeline(
        TilePredictor(hungry(10**9), CPU, TilingSettings(batch_pixels=200 * 200)), Limits(), keep_pixels
    )
    for image in pipeline.run(images):
        with lock:
            finished += 1
        image.result = None
    assert finished == 120
    assert most <= READ_AHEAD + 60  # and what 64 MB of decoded and open images hold


def test_an_exact_copy_that_was_done_before_is_skipped_unscored() -> None:
    artifact, shapes = counting(enlarger())
    content = encoded("PNG")
    pipeline = Pipeline(
        TilePredictor(artifact, CPU, TilingSettings()), Limits(), keep_pixels, known=lambda p: p.key == "old"
    )
    done = list(pipeline.run([Request("old", lambda: content), Request("new", lambda: content)]))
    assert [image.skipped for image in done] == [True, False]
    assert len(shapes) == 1


def test_a_full_disk_ends_the_job_and_is_no_images_fault() -> None:
    def finish(image: Request) -> None:
        raise OSError(28, "No space left on device")

    pipeline = Pipeline(TilePredictor(enlarger(), CPU, TilingSettings()), Limits(), finish)
    with pytest.raises(OSError, match="No space"):
        list(pipeline.run([Request("a", lambda: encoded("PNG"))]))


def test_a_full_canvas_disk_ends_the_job_and_is_no_images_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("gan_lib.scoring.tiling.canvas.os.pwrite", full)
    with pytest.raises(MachineInTrouble, match="No space"):
        score(enlarger(), [encoded("PNG", photo(300, 300))], canvas_megabytes=1)


def test_an_image_that_cannot_be_had_now_is_not_rejected_and_the_others_go_on() -> None:
    def refuse() -> bytes:
        raise StoreUnavailable("s3://x cannot be had now: status 503")

    pipeline = Pipeline(TilePredictor(enlarger(), CPU, TilingSettings()), Limits(), keep_pixels)
    done = list(pipeline.run([Request("a", refuse), Request("b", lambda: encoded("PNG"))]))
    assert [request.reason for request in done] == [UNAVAILABLE, None]
    assert done[0].message == "s3://x cannot be had now: status 503"


def test_a_result_that_cannot_be_written_now_ends_the_job() -> None:
    def finish(image: Request) -> None:
        raise StoreUnavailable("s3://x cannot be had now: status 503")

    pipeline = Pipeline(TilePredictor(enlarger(), CPU, TilingSettings()), Limits(), finish)
    with pytest.raises(StoreUnavailable):
        list(pipeline.run([Request("a", lambda: encoded("PNG"))]))


def test_a_net_that_sees_everything_runs_whole_up_to_its_size() -> None:
    artifact = whole_image_net()
    assert artifact.halo is None
    content = encoded("PNG", photo(90, 120))
    (done,) = score(artifact, [content], tile=32)
    assert_same_but_for_ties(done.result, whole_result(artifact, content))


class HalfwayToTheMeanNet(nn.Module):
    """Sees the whole image: each value moves halfway to the mean of all."""

    def forward(self, images: Tensor) -> Tensor:
        return (images + images.mean(dim=(2, 3), keepdim=True)) / 2


def test_above_its_size_it_is_blended_without_seams() -> None:
    artifact = unbuilt(HalfwayToTheMeanNet(), halo=None)
    ramp = np.tile(np.linspace(0, 255, 400, dtype=np.uint8)[None, :, None], (300, 1, 3))
    (done,) = score(artifact, [encoded("PNG", ramp)], tile=128, whole_up_to=1000, overlap=32)
    assert done.reason is None
    levels = done.result.astype(int)
    assert not np.array_equal(done.result, whole_result(artifact, encoded("PNG", ramp)))  # it was cut
    # Neighbouring tiles differ by some 30 levels in their means; over 32 pixels that is one level a pixel.
    assert np.abs(np.diff(levels, axis=1)).max() <= 3
    assert np.abs(np.diff(levels, axis=0)).max() <= 1


def test_blending_equal_tiles_changes_nothing() -> None:
    artifact = hungry(10**9, halo=None)
    content = encoded("PNG", photo(150, 210))
    (done,) = score(artifact, [content], tile=64, whole_up_to=1000, overlap=16)
    assert np.array_equal(done.result, decode(content))


def turned(pixels: np.ndarray, how: Callable[[np.ndarray], np.ndarray]) -> bytes:
    return encoded("PNG", np.ascontiguousarray(how(pixels)))


def test_a_self_ensemble_does_not_care_how_the_image_is_turned() -> None:
    pixels = photo(20, 28)
    upright, upside_down, mirrored = (
        score(enlarger(), [turned(pixels, how)], self_ensemble=True)[0].result
        for how in (lambda p: p, lambda p: np.rot90(p, 2), lambda p: p[:, ::-1])
    )
    assert_same_but_for_ties(np.rot90(upside_down, 2), upright)
    assert_same_but_for_ties(mirrored[:, ::-1], upright)
    plain = score(enlarger(), [turned(pixels, lambda p: p)])[0].result
    assert not np.array_equal(plain, upright)


def test_exif_turns_the_result_too() -> None:
    buffer = io.BytesIO()
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    PillowImage.fromarray(photo(16, 40)).save(buffer, "JPEG", exif=exif)
    (done,) = score(enlarger(), [buffer.getvalue()])
    assert (done.height, done.width) == (160, 64)
