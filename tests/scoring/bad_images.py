"""Thirty ways in which a file is no image that can be scored, made from scratch."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image


def photo(height: int = 24, width: int = 32, seed: int = 0) -> np.ndarray:
    """A small smooth image, uint8 RGB."""
    random = np.random.default_rng(seed)
    small = Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def encoded(kind: str, pixels: np.ndarray | None = None, **options: object) -> bytes:
    """``pixels`` as a file of Pillow's ``kind``."""
    buffer = io.BytesIO()
    Image.fromarray(photo() if pixels is None else pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def png_claiming(width: int, height: int) -> bytes:
    """A PNG whose header promises more than its few bytes hold: what decompression bombs look like."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    pixels = zlib.compress(b"\0" * 10_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def bad_contents() -> dict[str, bytes]:
    """File name -> content that ``Limits(max_bytes=200_000, max_pixels=250_000, min_side=4)`` keep out."""
    jpeg, png, webp, gif, tiff, bmp = (encoded(kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"))
    noise = np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8).tobytes()
    return {
        "empty.jpg": b"",
        "one-byte.png": b"\x89",
        "text.jpg": b"this is not an image\n",
        "page.png": b"<!doctype html><title>404</title>",
        "vector.svg": b"<svg xmlns='http://www.w3.org/2000/svg'><rect width='9' height='9'/></svg>",
        "paper.pdf": b"%PDF-1.7\n%%EOF",
        "archive.zip": b"PK\x03\x04" + noise,
        "program.jpg": b"\x7fELF" + noise,
        "pickle.png": b"\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00\x8c\x08builtins.",
        "script.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
        "noise.jpg": noise,
        "zeros.png": b"\0" * 4096,
        "jpeg-start-only.jpg": b"\xff\xd8\xff\xe0",
        "jpeg-header-only.jpg": jpeg[:200],
        "jpeg-half.jpg": jpeg[: len(jpeg) // 2],
        "jpeg-without-end.jpg": jpeg[:-40],
        "png-start-only.png": png[:8],
        "png-header-only.png": png[:33],
        "png-half.png": png[: len(png) // 2],
        "png-wrong-checksum.png": png[:45] + bytes([png[45] ^ 255]) + png[46:],
        "webp-half.webp": webp[: len(webp) // 2],
        "gif-header-only.gif": gif[:13],
        "tiff-half.tiff": tiff[: len(tiff) // 2],
        "bmp-half.bmp": bmp[: len(bmp) // 2],
        "bomb.png": png_claiming(60_000, 60_000),
        "bomb-in-one-line.png": png_claiming(2**31 - 1, 1),
        "promises-too-much.png": png_claiming(400, 400),
        "too-many-bytes.bmp": encoded("BMP", photo(300, 300)),
        "too-many-pixels.jpg": encoded("JPEG", photo(600, 600)),
        "too-small.png": encoded("PNG", photo(2, 40)),
        "floats.tiff": encoded("TIFF", np.ones((8, 8), np.float32)),
    }
