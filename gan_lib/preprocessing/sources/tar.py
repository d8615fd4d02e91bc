"""Tar files in the layout of WebDataset: neighbours that share a name up to its first dot are one sample."""

from __future__ import annotations

import json
import lzma
import tarfile
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from itertools import groupby
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from gan_lib.cluster.parallelize import parallelize
from gan_lib.core import storage
from gan_lib.core.config import Settings, Url
from gan_lib.core.listing import Entry, branches, files_of, require_folder
from gan_lib.preprocessing.samples import COLUMNS, Part, Sample, in_batches
from gan_lib.preprocessing.sources.listing import Context, Listing, SourceError
from gan_lib.preprocessing.sources.spool import spooled

_IMAGES = ("jpg", "jpeg", "png", "webp", "gif", "tif", "tiff", "bmp", "ppm", "avif")
_SOUNDS = ("wav", "flac", "ogg", "mp3", "aiff", "aif", "au", "caf")
_CONTENT = (*_IMAGES, *_SOUNDS, "npy")
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_MEMBER_BYTES = 2**20  # labels, captions and JSON beside the content are small; more than this is none of them
_UNPACKED_BYTES = 256 * 2**20  # a compressed file of more, most likely a bomb, is not taken into memory

Members = list[tuple[str, tarfile.TarInfo]]
"""(extension, member) of the files of one sample"""


class TarSource(Settings):
    """All ``.tar`` files below ``path``; compressed ones are unpacked into the staging folder first."""

    kind: Literal["tar"]
    path: Url
    """folder or URL"""
    content: str | None = None
    """extension of the files that are the samples' content, such as txt; null takes any image, sound or array"""
    fields: dict[str, str] = Field(default_factory=dict)
    """values to keep beside the content -> numpy dtype, or "str": ``label`` is read from ``.cls``, ``caption`` from
    ``.txt``, any other name is a key of ``.json``"""

    def listing(self, context: Context) -> Listing:
        """The samples, each the byte range of its content.

        Raises:
            SourceError: there is no such folder, or no tar file in it.
        """
        root = require_folder(self.path)
        found = [entry for branch in branches(root) for entry in files_of(branch)]
        shards = [entry for entry in found if entry.url.endswith((".tar", *_COMPRESSED))]
        if not shards:
            raise SourceError(f"{self.path} holds no .tar files.")
        extensions = _CONTENT if self.content is None else (self.content.lower().lstrip("."),)
        read = partial(_read_shard, root=root, spool=context.spool, fields=self.fields, extensions=extensions)
        return Listing(parallelize(context.spark, shards, read, COLUMNS), fields=self.fields)


def _read_shard(
    shard: Entry, root: str, spool: str, fields: Mapping[str, str], extensions: Collection[str] = _CONTENT
) -> Iterator[pa.RecordBatch]:
    yield from in_batches(_samples(shard, shard.key(root), spool, fields, extensions))


def _samples(
    shard: Entry, prefix: str, spool: str, fields: Mapping[str, str], extensions: Collection[str] = _CONTENT
) -> Iterator[Sample]:
    compressed = prefix.endswith(_COMPRESSED)
    try:
        # Members of a compressed tar can be read in their order only, so each sample is copied as it goes by.
        with (
            storage.open_file(shard.url) as file,
            tarfile.open(fileobj=file, mode="r:*" if compressed else "r:") as tar,
        ):
            for key, members in _members_by_name(tar):
                content = _content(members, extensions)
                sample = _sample(tar, members, content, f"{prefix}/{key}", shard, fields)
                if compressed and content is not None and sample.problem is None:
                    with tar.extractfile(content) as member:  # type: ignore[union-attr]
                        yield from spooled(spool, [(sample.name, member.read(), sample.values)])
                else:
                    yield sample
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        yield Sample(prefix, (), etag=shard.etag, problem=f"corrupt: the tar file breaks off: {error}")


def _members_by_name(tar: tarfile.TarFile) -> Iterator[tuple[str, Members]]:
    """(name, members) of each sample; one that comes again under its name gets a number, so that none hides another."""
    members = (member for member in tar if not member.isdir())
    seen: Counter[str] = Counter()
    for key, group in groupby(members, lambda member: _split(member.name)[0]):
        samples: list[Members] = [[]]
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


def _content(members: Members, extensions: Collection[str]) -> tarfile.TarInfo | None:
    """The file of a sample that its part is; the others are labels, captions and the like."""
    return next((member for extension, member in members if extension.rpartition(".")[2] in extensions), None)


def _sample(
    tar: tarfile.TarFile,
    members: Members,
    content: tarfile.TarInfo | None,
    name: str,
    shard: Entry,
    fields: Mapping[str, str],
) -> Sample:
    if content is None:
        return Sample(name, (), etag=shard.etag, problem="no-content: the sample holds no image, sound or array")
    if not content.isreg() or content.issparse():  # what it stands for lies elsewhere, or not in one piece
        return Sample(name, (), etag=shard.etag, problem="unsupported: a link, a device or a sparse file in a tar file")
    if shard.url.endswith(_COMPRESSED) and content.size > _UNPACKED_BYTES:
        problem = f"too-many-bytes: {content.size}, of a compressed tar file {_UNPACKED_BYTES} are unpacked at most"
        return Sample(name, (), etag=shard.etag, problem=problem)
    # A shard that was repacked has another etag, but an untouched file in it has not: its own time is taken.
    sample = Sample(name, (Part(shard.url, content.offset_data, content.size),), etag=str(content.mtime))
    try:
        return sample.with_fields(_values(tar, dict(members), fields))
    except (ValueError, KeyError, TypeError, tarfile.TarError) as error:
        return sample.with_problem(f"bad-field: {error}")


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
