"""The idx files of MNIST and Fashion-MNIST: all images in one file, all labels in another, compressed or not."""

from __future__ import annotations

import gzip
import itertools
import struct
import zlib
from collections.abc import Iterator, Mapping
from functools import partial
from typing import IO, Any, Literal, cast

import pyarrow as pa
from pydantic import Field

from gan_lib.cluster.parallelize import parallelize
from gan_lib.core import storage
from gan_lib.core.config import Settings, Url
from gan_lib.preprocessing.samples import COLUMNS, Sample, in_batches
from gan_lib.preprocessing.sources.listing import Context, Listing, SourceError
from gan_lib.preprocessing.sources.spool import spooled

# http://yann.lecun.com/exdb/mnist: two zeros, the type (8: unsigned byte), the number of dimensions
_IMAGES_MAGIC, _LABELS_MAGIC = 0x00000803, 0x00000801
_GZIP_MAGIC = b"\x1f\x8b"


class IdxSource(Settings):
    """Grey images of one size with their labels; the field ``label`` is an int64."""

    kind: Literal["idx"]
    images: Url
    """file or URL, such as ``train-images-idx3-ubyte.gz``"""
    labels: Url
    """file or URL, such as ``train-labels-idx1-ubyte.gz``"""
    class_names: list[str] = Field(default=[])
    """in the order of the labels; none: the numbers up to the largest label are their own names"""

    def listing(self, context: Context) -> Listing:
        """The images, copied once to the staging folder as PGM files.

        Raises:
            SourceError: a file is not there, is no idx file, or the two do not belong together.
        """
        images, labels = storage.absolute(self.images), storage.absolute(self.labels)
        count, height, width = _dimensions(images, _IMAGES_MAGIC, 3)
        (label_count,) = _dimensions(labels, _LABELS_MAGIC, 1)
        if count != label_count:
            raise SourceError(f"{self.images} holds {count} images, {self.labels} {label_count} labels.")
        read = partial(_read, height=height, width=width, spool=context.spool)
        frame = parallelize(context.spark, [(images, labels, count)], read, COLUMNS)
        classes = self.class_names or context.numbered("label", map(str, range(_largest_label(labels) + 1)))
        return Listing(frame, fields={"label": "int64"}, classes={"label": classes})


def _open(url: str) -> IO[bytes]:
    fs, path = storage.open_store(url)
    file = fs.open(path, "rb")
    compressed = file.read(2) == _GZIP_MAGIC
    file.seek(0)
    return cast(IO[bytes], gzip.GzipFile(fileobj=file) if compressed else file)


def _dimensions(url: str, magic: int, number: int) -> tuple[int, ...]:
    try:
        with _open(url) as file:
            found, *sizes = struct.unpack(f">{1 + number}I", file.read(4 + 4 * number))
    except FileNotFoundError:
        raise SourceError(f"The idx file {url} is not there.") from None
    except (struct.error, OSError, EOFError) as error:
        raise SourceError(f"{url} is no idx file: {error}.") from None
    if found != magic:
        raise SourceError(f"{url} is no idx file of bytes with {number} dimensions: it begins with {found:#010x}.")
    return tuple(sizes)


def _largest_label(url: str) -> int:
    largest = 0
    with _open(url) as file:
        file.read(8)
        try:
            while block := file.read(1 << 20):
                largest = max(largest, max(block))
        except (EOFError, OSError, zlib.error):  # a compressed file that breaks off or is damaged
            pass
    return largest


def _read(files: tuple[str, str, int], height: int, width: int, spool: str) -> Iterator[pa.RecordBatch]:
    return in_batches(_samples(*files, height, width, spool))


def _samples(images: str, labels: str, count: int, height: int, width: int, spool: str) -> Iterator[Sample]:
    found = 0
    for sample in spooled(spool, _contents(images, labels, height, width)):
        found += 1
        yield sample
    for number in range(found, count):
        yield Sample(f"{number:08d}", (), problem="corrupt: the file ends before this image")


def _contents(images: str, labels: str, height: int, width: int) -> Iterator[tuple[str, bytes, Mapping[str, Any]]]:
    """(name, content, fields) for as long as both files last."""
    header = b"P5 %d %d 255\n" % (width, height)  # with it the bytes are a PGM file
    with _open(images) as image_file, _open(labels) as label_file:
        try:
            image_file.read(16)
            label_file.read(8)
            for number in itertools.count():
                pixels, label = image_file.read(height * width), label_file.read(1)
                if len(pixels) < height * width or not label:
                    return
                yield f"{number:08d}", header + pixels, {"label": label[0]}
        except (EOFError, OSError, zlib.error):  # a compressed file that breaks off or is damaged
            return
