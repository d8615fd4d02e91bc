"""Tar files in the layout of WebDataset: neighbours that share a name up to its first dot are one sample."""

from __future__ import annotations

import json
import lzma
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import groupby
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from gan_lib.cluster.parallelize import parallelize
from gan_lib.core import storage
from gan_lib.core.config import Settings
from gan_lib.core.listing import Entry, branches, files_of, require_folder
from gan_lib.preprocessing.samples import COLUMNS, Item, Part, in_batches
from gan_lib.preprocessing.sources.listing import Context, Listing, SourceError
from gan_lib.preprocessing.sources.spool import spooled

_IMAGES = ("jpg", "jpeg", "png", "webp", "gif", "tif", "tiff", "bmp", "ppm", "avif")
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_MEMBER_BYTES = 2**20  # labels, captions and JSON beside an image are small; more than this is none of them
_UNPACKED_BYTES = 256 * 2**20  # a compressed image file of more, most likely a bomb, is not taken into memory

Sample = list[tuple[str, tarfile.TarInfo]]
"""(extension, member) of the files of one sample"""


class TarSource(Settings):
    """All ``.tar`` files below ``path``; compressed ones are unpacked into the staging folder first."""

    kind: Literal["tar"]
    path: str
    """folder or URL"""
    fields: dict[str, str] = Field(default_factory=dict)
    """values to keep beside the image -> numpy dtype, or "str": ``label`` is read from ``.cls``, ``caption`` from
    ``.txt``, any other name is a key of ``.json``"""

    def listing(self, context: Context) -> Listing:
        """The samples, each the byte range of its image.

        Raises:
            SourceError: there is no such folder, or no tar file in it.
        """
        root = require_folder(self.path)
        found = [entry for branch in branches(root) for entry in files_of(branch)]
        shards = [entry for entry in found if entry.url.endswith((".tar", *_COMPRESSED))]
        if not shards:
            raise SourceError(f"{self.path} holds no .tar files.")
        read = partial(_read_shard, root=root, spool=context.spool, fields=self.fields)
        return Listing(parallelize(context.spark, shards, read, COLUMNS), fields=self.fields)


def _read_shard(shard: Entry, root: str, spool: str, fields: Mapping[str, str]) -> Iterator[pa.RecordBatch]:
    name = shard.key(root)
    yield from in_batches(_items(shard, name, spool, fields))


def _items(shard: Entry, prefix: str, spool: str, fields: Mapping[str, str]) -> Iterator[Item]:
    compressed = prefix.endswith(_COMPRESSED)
    try:
        # Members of a compressed tar can be read in their order only, so each sample is copied as it goes by.
        with (
            storage.open_file(shard.url) as file,
            tarfile.open(fileobj=file, mode="r:*" if compressed else "r:") as tar,
        ):
            for key, sample in _samples(tar):
                item = _item(tar, sample, f"{prefix}/{key}", shard, fields)
                if compressed and item.problem is None:
                    with tar.extractfile(_image(sample)) as member:  # type: ignore[union-attr,arg-type]
                        yield from spooled(spool, [(item.name, member.read(), item.values)])
                else:
                    yield item
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        yield Item(prefix, (), stamp=shard.etag, problem=f"corrupt: the tar file breaks off: {error}")


def _samples(tar: tarfile.TarFile) -> Iterator[tuple[str, Sample]]:
    """(name, members) of each sample; one that comes again under its name gets a number, so that none hides another."""
    members = (member for member in tar if not member.isdir())
    seen: Counter[str] = Counter()
    for key, group in groupby(members, lambda member: _split(member.name)[0]):
        samples: list[Sample] = [[]]
        for member in group:
            extension = _split(member.name)[1]
            if extension in dict(samples[-1]):
                samples.append([])
            samples[-1].append((extension, member))
        for sample in samples:
            seen[key] += 1
            yield (key if seen[key] == 1 else f"{key} ({seen[key]})"), sample


def _split(name: str) -> tuple[str, str]:
    folder, slash, file = name.removeprefix("./").rpartition("/")
    stem, _, extension = file.partition(".")
    return folder + slash + stem, extension.lower()


def _image(sample: Sample) -> tarfile.TarInfo | None:
    return next((member for extension, member in sample if extension.rpartition(".")[2] in _IMAGES), None)


def _item(tar: tarfile.TarFile, sample: Sample, name: str, shard: Entry, fields: Mapping[str, str]) -> Item:
    image = _image(sample)
    if image is None:
        return Item(name, (), stamp=shard.etag, problem="no-image: the sample holds no image file")
    if not image.isreg() or image.issparse():  # what it stands for lies elsewhere, or not in one piece
        return Item(name, (), stamp=shard.etag, problem="unsupported: a link, a device or a sparse file in a tar file")
    if shard.url.endswith(_COMPRESSED) and image.size > _UNPACKED_BYTES:
        problem = f"too-many-bytes: {image.size}, of a compressed tar file {_UNPACKED_BYTES} are unpacked at most"
        return Item(name, (), stamp=shard.etag, problem=problem)
    # A shard that was repacked has another stamp, but an untouched image in it has not: its own time is taken.
    item = Item(name, (Part(shard.url, image.offset_data, image.size),), stamp=str(image.mtime))
    try:
        return item.with_fields(_values(tar, dict(sample), fields))
    except (ValueError, KeyError, tarfile.TarError) as error:
        return item.with_problem(f"bad-field: {error}")


def _values(tar: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo], fields: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if "json" in members:
        values |= json.loads(_text(tar, members["json"]))
    if "cls" in members:
        values["label"] = int(_text(tar, members["cls"]))
    if "txt" in members:
        values["caption"] = _text(tar, members["txt"]).strip()
    missing = fields.keys() - values.keys()
    if missing:
        raise KeyError(f"the sample has no {min(missing)}")
    return {name: values[name] for name in fields}


def _text(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    if member.size > _MEMBER_BYTES:
        raise ValueError(f"{member.name} has {member.size} bytes")
    file = tar.extractfile(member)
    return file.read().decode() if file else ""
