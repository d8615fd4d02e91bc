"""What a camera wrote beside the pixels: how it was held, and all else that stays true of an enlarged photo."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from gan_lib.core.images.tiff_directory import (
    Directory,
    Entry,
    byte_order,
    first_directory,
    in_order,
    pointer,
    read_directory,
    write_directory,
)

PREFIX = b"Exif\0\0"
"""Before the TIFF header in a JPEG; other formats have chunks of that name."""
LARGEST_KEPT = 48 * 1024
"""Bytes; a JPEG's segment takes 64 KiB, and the provenance behind it is searched in the first 64 KiB of a file. What is
larger goes without its MakerNote, and if that does not help it goes."""
_ORIENTATION = 0x0112
_EXIF, _GPS, _INTEROPERABILITY, _MAKER_NOTE = 0x8769, 0x8825, 0xA005, 0x927C
# Of the first directory: the orientation, and what says how the pixels of that very file are stored (TIFF 6.0; the last
# ones are XMP, IPTC, Photoshop's own and the profile).
_OF_THE_PIXELS = frozenset(
    {_ORIENTATION, 301, 317, 338, 339, 347, 700, 33723, 34377, 34675, 37724}
    | set(range(254, 270)) - {269}
    | {273, 277, 278, 279, 280, 281, 284, 288, 289, 290, 291, 292, 293}
    | set(range(318, 338))
    | set(range(340, 347))
    | set(range(512, 522))
    | set(range(529, 533))
)
_SIZES = frozenset({0xA002, 0xA003})  # PixelXDimension, PixelYDimension


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 (upright) where EXIF is missing or broken."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # EXIF is a TIFF file inside an image: as hostile as any, and never worth losing the image for
        return 1
    return value if value in range(1, 9) else 1


def oriented(pixels: NDArray, orientation: int) -> NDArray:
    """Turn stored pixels upright (EXIF 2.32, table of the Orientation tag)."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def upright(image: Image.Image) -> Image.Image:
    """The image, turned as its EXIF says; as it is where that is broken."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image


def kept_exif(image: Image.Image, content: bytes) -> bytes | None:
    """What stays true once pixels are upright and of another number, as a TIFF file of its own without pixels.

    Gone are the orientation, the thumbnail, the sizes and, of a TIFF file, how its pixels are stored. None where
    nothing is left, or it cannot be read.
    """
    data = _exif_data(image, content)
    order = byte_order(data)
    if order is None:
        return None
    try:
        entries = _kept(data, order, first_directory(data, order))
    except struct.error:
        return None
    for omitted in ((), (_MAKER_NOTE,)):
        written = _as_file(_without(entries, omitted), order)
        if len(written) <= LARGEST_KEPT:
            return written if entries else None
    return None


def exif_entries(exif: bytes, order: str) -> Directory:
    """The entries of :func:`kept_exif`'s result in the byte order of another file, to be written into that."""
    own = byte_order(exif)
    assert own is not None
    return in_order(_kept(exif, own, first_directory(exif, own)), own, order)


def _exif_data(image: Image.Image, content: bytes) -> bytes:
    if image.format == "TIFF":
        return content
    if image.format == "PNG":
        return png_exif(content)
    return bytes(image.info.get("exif") or b"").removeprefix(PREFIX)


def png_exif(content: bytes) -> bytes:
    """The eXIf chunk of a PNG (PNG 3, 11.3.3.4), found without decoding a pixel; empty where there is none."""
    at = 8
    while at + 8 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        if content[at + 4 : at + 8] == b"eXIf":
            return content[at + 8 : at + 8 + length].removeprefix(PREFIX)
        at += 12 + length
    return b""


def orientation_in(data: bytes) -> int:
    """The orientation that a TIFF directory tells, 1 to 8; 1 where it tells none."""
    order = byte_order(data)
    if order is None:
        return 1
    try:
        entries = read_directory(data, order, first_directory(data, order))
        values = [entry.value for entry in entries if entry.tag == _ORIENTATION and entry.type == 3]
        value = struct.unpack(f"{order}H", values[0])[0] if values and isinstance(values[0], bytes) else 1
    except struct.error:
        return 1
    return value if value in range(1, 9) else 1


def _kept(data: bytes, order: str, at: int) -> Directory:
    first = read_directory(data, order, at)
    pointers = {_EXIF, _GPS}
    kept = [entry for entry in first if entry.tag not in _OF_THE_PIXELS | pointers]
    for tag in sorted(pointers):
        below = pointer(first, tag, order)
        entries = _below(data, order, below) if below is not None else ()
        if entries:
            kept.append(Entry(tag, 4, 1, entries))
    return tuple(kept)


def _below(data: bytes, order: str, at: int) -> Directory:
    entries = read_directory(data, order, at)
    kept = tuple(entry for entry in entries if entry.tag not in _SIZES | {_EXIF, _GPS, _INTEROPERABILITY})
    further = pointer(entries, _INTEROPERABILITY, order)
    third = read_directory(data, order, further) if further is not None else ()
    return (*kept, Entry(_INTEROPERABILITY, 4, 1, third)) if third else kept


def _without(entries: Directory, tags: tuple[int, ...]) -> Directory:
    return tuple(
        entry if isinstance(entry.value, bytes) else entry._replace(value=_without(entry.value, tags))
        for entry in entries
        if entry.tag not in tags
    )


def _as_file(entries: Directory, order: str) -> bytes:
    header = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", 8)
    return header + write_directory(entries, order, 8)
