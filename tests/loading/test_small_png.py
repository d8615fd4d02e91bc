"""Whole row groups of small PNGs: the same pixels as OpenCV's, and everything unusual left to OpenCV."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from written import write_dataset

from gan_lib.dataset.schema import DatasetError, PngField, Schema
from gan_lib.loading.decode import small_png
from gan_lib.loading.loader import Loader


def joined(contents: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """As Arrow holds them, with something before the first."""
    offsets = np.cumsum([5, *map(len, contents)]).astype(np.int32)
    return np.frombuffer(b"other" + b"".join(contents), np.uint8), offsets


def images(count: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


@given(st.integers(1, 9), st.integers(1, 12), st.integers(1, 12), st.booleans())
def test_what_opencv_writes_is_decoded_to_its_pixels(count: int, height: int, width: int, rgb: bool):
    shape = (height, width, 3) if rgb else (height, width)
    originals = images(count, shape)
    field = PngField("image", shape)
    assert np.array_equal(small_png.decode_all(*joined([field.encode(p) for p in originals]), shape), originals)


def unusual(image: np.ndarray) -> dict[str, bytes]:
    """Files that are well, or damaged, but not the plain case."""
    field = PngField("image", image.shape)
    plain = field.encode(image)
    pillow = io.BytesIO()
    Image.fromarray(image).save(pillow, "png", optimize=True)
    up = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_DEFAULT])[1].tobytes()
    damaged = plain[:60] + bytes([plain[60] ^ 1]) + plain[61:]
    return {
        "pillow": pillow.getvalue(),
        "another strategy": up,
        "another size": PngField("image", (5, 8)).encode(image[:5]),
        "16 bits": PngField("image", image.shape, "uint16").encode(image.astype(np.uint16)),
        "damaged": damaged,
        "cut": plain[:-20],
        "empty": b"",
        "no image": b"x" * len(plain),
        "a stream that ends early": with_stream(plain, zlib.compress(b"\1" + bytes(8))),
        "a stream that goes on": with_stream(plain, zlib.compress(b"\1" * 100_000)),
    }


def with_stream(plain: bytes, stream: bytes) -> bytes:
    chunk = b"IDAT" + stream
    checksum = zlib.crc32(chunk).to_bytes(4, "big")
    return plain[:33] + len(stream).to_bytes(4, "big") + chunk + checksum + plain[-12:]


@pytest.mark.parametrize("name", unusual(images(1, (8, 8))[0]))
def test_an_unusual_file_is_left_to_opencv(name: str):
    """Or decoded, where its writer happens to have chosen what we understand."""
    originals = images(3, (8, 8))
    plain = [PngField("image", (8, 8)).encode(image) for image in originals]
    decoded = small_png.decode_all(*joined([plain[0], unusual(originals[1])[name], plain[2]]), (8, 8))
    assert decoded is None or np.array_equal(decoded, originals)


def test_a_damaged_small_image_is_named_by_file_and_row(tmp_path: Path):
    schema = Schema("Digits", (PngField("image", (8, 8)),))
    dataset = write_dataset(tmp_path / "digits", schema, [{"image": image} for image in images(16, (8, 8))])
    path = sorted(Path(dataset.url).glob("*.parquet"))[0]
    content = path.read_bytes()
    path.write_bytes(content.replace(b"\x89PNG", b"\0\0\0\0"))
    with Loader(dataset, batch_size=16) as loader:
        with pytest.raises(DatasetError, match=r"part-00000\.parquet, row group 0, row 0: Field image"):
            list(loader)
