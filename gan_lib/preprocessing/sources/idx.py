"""The idx files of MNIST and Fashion-MNIST: all images in one file, all labels in another, compressed or not."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import IO, Literal, cast

import pyarrow as pa
from pydantic import Field

from gan_lib.cluster.parallelize import parallelize
from gan_lib.core import storage
from gan_lib.core.config import Settings, Url
from gan_lib.core.errors import MachineInTrouble, StoreUnavailable
from gan_lib.preprocessing.samples import COLUMNS, Sample, fields_of, in_batches, problem_in_reading
from gan_lib.preprocessing.sources.listing import Context, Listing, SourceError
from gan_lib.preprocessing.sources.spool import Loose, spooled

# http://yann.lecun.com/exdb/mnist: two zeros, the type (8: unsigned byte), the number of dimensions
_IMAGES_MAGIC, _LABELS_MAGIC = 0x00000803, 0x00000801
_GZIP_MAGIC = b"\x1f\x8b"
_BLOCK_BYTES = 2**20


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
        if not 0 < height * width <= context.max_bytes:
            raise SourceError(f"{self.images} holds images of {width}x{height}; 1 to {context.max_bytes} bytes fit.")
        read = partial(_read, height=height, width=width, spool=context.spool)
        frame = parallelize(context.spark, [(images, labels, count)], read, COLUMNS)
        numbers = map(str, range(_largest_label(labels, count) + 1))
        return Listing(
            frame,
            fields={"label": "int64"},
            classes={"label": self.class_names or context.numbered("label", numbers)},
        )


@contextmanager
def _opened(url: str) -> Iterator[IO[bytes]]:
    with storage.open_file(url) as file:
        compressed = file.read(2) == _GZIP_MAGIC
        file.seek(0)
        yield cast(IO[bytes], gzip.GzipFile(fileobj=file) if compressed else file)


def _dimensions(url: str, magic: int, number: int) -> tuple[int, ...]:
    try:
        with _opened(url) as file:
            found, *sizes = struct.unpack(f">{1 + number}I", file.read(4 + 4 * number))
    except FileNotFoundError:
        raise SourceError(f"The idx file {url} is not there.") from None
    except (StoreUnavailable, MachineInTrouble):
        raise
    except Exception as error:  # a damaged compressed file raises anything
        raise SourceError(f"{url} is no idx file: {error}.") from None
    if found != magic:
        raise SourceError(f"{url} is no idx file of bytes with {number} dimensions: it begins with {found:#010x}.")
    return tuple(sizes)


def _largest_label(url: str, count: int) -> int:
    largest = 0
    with _opened(url) as file:
        try:
            file.read(8)
            while count > 0 and (block := file.read(min(count, _BLOCK_BYTES))):
                largest = max(largest, max(block))
                count -= len(block)
        except (StoreUnavailable, MachineInTrouble):
            raise
        except Exception as error:  # it breaks off or is damaged: so do the samples
            problem_in_reading(error, url, "corrupt")
    return largest


def _read(files: tuple[str, str, int], height: int, width: int, spool: str) -> Iterator[pa.RecordBatch]:
    return in_batches(spooled(spool, samples_of_files(*files, height, width)))


def samples_of_files(images: str, labels: str, count: int, height: int, width: int) -> Iterator[Sample | Loose]:
    """The images with their labels, and one sample that stands for all that are missing at the end."""
    header = b"P5 %d %d 255\n" % (width, height)  # with it the bytes are a PGM file
    number, problem = 0, "corrupt: the file ends before this image"
    try:
        with _opened(images) as image_file, _opened(labels) as label_file:
            image_file.read(16)
            label_file.read(8)
            while number < count:
                pixels, label = image_file.read(height * width), label_file.read(1)
                if len(pixels) < height * width or not label:
                    break
                yield Loose(Sample(f"{number:08d}", (), fields_of({"label": label[0]})), header + pixels)
                number += 1
    except Exception as error:  # a damaged compressed file raises anything
        problem = problem_in_reading(error, images, "corrupt: the file breaks off")
    if number < count:  # one for all: a header may claim four billion
        name = f"{number:08d}" if number == count - 1 else f"{number:08d} to {count - 1:08d}"
        yield Sample(name, (), problem=problem)
