"""The rows that benchmarks/loader.py reads, written once in the format of every contender: the same bytes for everyone.

FOLDER/petastorm  Parquet and _common_metadata, which gan_lib reads as well
FOLDER/tar        shards for webdataset
FOLDER/mds        shards for mosaicml-streaming
FOLDER/litdata    chunks for litdata
FOLDER/files      one file a row, for a plain PyTorch Dataset
"""

from __future__ import annotations

import gzip
import io
import sys
import tarfile
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg

from gan_lib.dataset import manifest as layout
from gan_lib.dataset.schema import ArrayField, BinaryField, JpegField, PngField, ScalarField, Schema

ROW_GROUPS_PER_FILE = 10


@dataclass(frozen=True)
class Workload:
    """What is read: rows of one array and one label."""

    name: str
    field: BinaryField
    rows: int
    batch_size: int
    rows_per_group: int
    images: Callable[[Path, int], Iterator[np.ndarray]]
    """(data folder, number) -> as many arrays of the field's shape"""

    @property
    def schema(self) -> Schema:
        """The columns of the Petastorm dataset."""
        return Schema(self.name, (self.field, ScalarField("label", "int64")))

    def decode(self, content: bytes) -> np.ndarray:
        """What every peer decodes by: the same decoder that gan_lib uses."""
        if isinstance(self.field, JpegField):
            return simplejpeg.decode_jpeg(content, "RGB")
        if isinstance(self.field, PngField):
            return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        return np.load(io.BytesIO(content))


def crops(size: int) -> Callable[[Path, int], Iterator[np.ndarray]]:
    def cut(data: Path, number: int) -> Iterator[np.ndarray]:
        """Random crops of the photos below ``data``; more than one of a photo, no two alike."""
        paths = sorted(p for p in data.rglob("*") if p.suffix in (".jpg", ".png") and "boundaries" not in p.parts)
        photos = [cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1] for path in paths]
        photos = [photo for photo in photos if min(photo.shape[:2]) >= size]
        if not photos:
            sys.exit(
                f"error: there is no photo of {size} pixels or more below {data}; name another folder with --data."
            )
        random = np.random.default_rng(0)
        for number_of_crop in range(number):
            photo = photos[number_of_crop % len(photos)]
            top, left = (int(random.integers(side - size + 1)) for side in photo.shape[:2])
            yield np.ascontiguousarray(photo[top : top + size, left : left + size])

    return cut


def _fashion(data: Path, number: int) -> Iterator[np.ndarray]:
    for name in ("train", "t10k"):
        content = gzip.decompress((data / "fashion-mnist" / f"{name}-images-idx3-ubyte.gz").read_bytes())
        images = np.frombuffer(content, np.uint8, offset=16).reshape(-1, 28, 28)
        yield from images[:number]
        number -= min(len(images), number)


WORKLOADS = {
    "jpeg256": Workload("jpeg256", JpegField("image", (256, 256, 3), 95), 8000, 64, 100, crops(256)),
    "png28": Workload("png28", PngField("image", (28, 28)), 70000, 256, 1000, _fashion),
    "raw": Workload("raw", ArrayField("image", "uint8", (64, 64, 3)), 16000, 128, 250, crops(64)),
}


def write(workload: Workload, data: Path, rows: int, folder: Path) -> None:
    """Write the first ``rows`` rows of the workload below ``folder``, in every format."""
    contents = [workload.field.encode(image) for image in workload.images(data, rows)]
    for write_format in (_write_petastorm, _write_tar, _write_mds, _write_litdata, _write_files):
        target = folder / write_format.__name__.removeprefix("_write_")
        target.mkdir(parents=True)
        write_format(workload, contents, target)


def _write_petastorm(workload: Workload, contents: list[bytes], folder: Path) -> None:
    per_file = workload.rows_per_group * ROW_GROUPS_PER_FILE
    row_groups = {}
    for begin in range(0, len(contents), per_file):
        part = contents[begin : begin + per_file]
        columns = [pa.array(part, pa.binary()), pa.array(range(begin, begin + len(part)), pa.int64())]
        table = pa.table(columns, schema=workload.schema.arrow_schema())
        name = f"part-{begin // per_file:05d}.parquet"
        pq.write_table(
            table, folder / name, row_group_size=workload.rows_per_group, compression="none", use_dictionary=False
        )
        row_groups[name] = -(-len(part) // workload.rows_per_group)
    layout.write_common_metadata(str(folder), workload.schema, row_groups)


def _write_tar(workload: Workload, contents: list[bytes], folder: Path) -> None:
    per_shard = workload.rows_per_group * ROW_GROUPS_PER_FILE
    for begin in range(0, len(contents), per_shard):
        with tarfile.open(folder / f"shard-{begin // per_shard:05d}.tar", "w") as tar:
            for number, content in enumerate(contents[begin : begin + per_shard], begin):
                for suffix, body in (("img", content), ("cls", str(number).encode())):
                    member = tarfile.TarInfo(f"{number:08d}.{suffix}")
                    member.size = len(body)
                    tar.addfile(member, io.BytesIO(body))


def import_streaming() -> types.ModuleType:
    """mosaicml-streaming, with an empty module for torchvision, which it imports for classes that are not used here.

    torchvision has no CPU build that imports beside this torch.
    """
    import transformers.feature_extraction_utils  # noqa: F401  (looks for torchvision itself: before the empty module)

    try:
        import torchvision  # noqa: F401
    except Exception:
        names = ("torchvision", "torchvision.datasets", "torchvision.datasets.folder", "torchvision.transforms")
        for name in (*names, "torchvision.transforms.functional"):
            sys.modules[name] = _EmptyModule(name)
    import streaming

    return streaming


class _EmptyModule(types.ModuleType):
    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def _write_mds(workload: Workload, contents: list[bytes], folder: Path) -> None:
    columns = {"image": "bytes", "label": "int"}
    with import_streaming().MDSWriter(out=str(folder), columns=columns, size_limit=1 << 24) as writer:
        for number, content in enumerate(contents):
            writer.write({"image": content, "label": number})


def _write_litdata(workload: Workload, contents: list[bytes], folder: Path) -> None:
    from litdata.streaming.writer import BinaryWriter

    writer = BinaryWriter(str(folder), chunk_bytes=1 << 24)
    for number, content in enumerate(contents):
        writer[number] = {"image": content, "label": number}
    writer.done()
    writer.merge()


def _write_files(workload: Workload, contents: list[bytes], folder: Path) -> None:
    for number, content in enumerate(contents):
        below = folder / f"{number // 1000:04d}"
        below.mkdir(exist_ok=True)
        (below / f"{number:08d}").write_bytes(content)
