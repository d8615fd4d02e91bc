"""Tar files in the layout of WebDataset: neighbours that share a name up to its first dot are one sample."""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from gan_lib.cluster.parallelize import parallelize
from gan_lib.core.config import Settings, Url
from gan_lib.core.listing import Entry, branches, files_of, require_folder
from gan_lib.preprocessing.samples import COLUMNS, Part, Sample, in_batches, problem_in_reading
from gan_lib.preprocessing.sources.listing import MAX_BYTES, Context, Listing, SourceError
from gan_lib.preprocessing.sources.spool import Loose, spooled
from gan_lib.preprocessing.sources.tar_stream import Member, TarStream, open_tar
from gan_lib.preprocessing.sources.values import to_json

_IMAGES = ("jpg", "jpeg", "png", "webp", "gif", "tif", "tiff", "bmp", "ppm", "avif")
_SOUNDS = ("wav", "flac", "ogg", "mp3", "aiff", "aif", "au", "caf")
_CONTENT = (*_IMAGES, *_SOUNDS, "npy")
_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_TEXTS = ("json", "cls", "txt")
_TEXT_BYTES = 2**20  # labels, captions and JSON beside the content are small; more than this is none of them
_MOST_FILES = 10_000  # of one sample
_MOST_SAMPLES = 10_000_000  # whose names are held while one tar file is listed


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
        shards = [entry for entry in found if entry.url.endswith(_SUFFIXES)]
        if not shards:
            raise SourceError(f"{self.path} holds no .tar files.")
        extensions = _CONTENT if self.content is None else (self.content.lower().lstrip("."),)
        read = partial(_read_shard, root, context.spool, self.fields, extensions, context.max_bytes)
        return Listing(parallelize(context.spark, shards, read, COLUMNS), fields=self.fields)


def _read_shard(
    root: str, spool: str, fields: Mapping[str, str], extensions: Collection[str], max_bytes: int, shard: Entry
) -> Iterator[pa.RecordBatch]:
    samples = samples_of_shard(shard, shard.key(root), fields, extensions, max_bytes)
    return in_batches(spooled(spool, samples))


def samples_of_shard(
    shard: Entry,
    name: str,
    fields: Mapping[str, str],
    extensions: Collection[str] = _CONTENT,
    max_bytes: int = MAX_BYTES,
) -> Iterator[Sample | Loose]:
    """The samples of a tar file, and one that says so where it breaks off or cannot be read.

    Of a compressed file each content is read as it goes by: at most one of at most ``max_bytes`` is held.
    """
    if shard.problem is not None:
        yield Sample(name, (), etag=shard.etag, problem=str(shard.problem))
        return
    try:
        with open_tar(shard.url) as stream:
            for key, files in _by_name(stream, extensions, max_bytes):
                yield _sample(files, f"{name}/{key}", shard, stream.compressed, fields, max_bytes)
    except Exception as error:  # damaged headers and streams raise anything
        problem = problem_in_reading(error, shard.url, "corrupt: the tar file breaks off")
        yield Sample(name, (), etag=shard.etag, problem=problem)


@dataclass
class _Files:
    """The files of one sample, as far as they are needed: headers may be large."""

    end: int = 0
    """of the last one, in the unpacked tar file"""
    extensions: set[str] = field(default_factory=set)
    texts: dict[str, bytes | None] = field(default_factory=dict)
    """extension -> what is in it; None where it is too long"""
    member: Member | None = None
    """its content"""
    content: bytes | None = None
    """... of a compressed tar file"""
    fingerprint: str = ""
    """... of one that is not compressed"""


def _by_name(stream: TarStream, extensions: Collection[str], max_bytes: int) -> Iterator[tuple[str, _Files]]:
    """(name, files) of each sample; one that comes again under its name gets a number, so that none hides another."""
    seen: Counter[str] = Counter()
    last: tuple[str, _Files] | None = None

    def named(key: str, files: _Files) -> tuple[str, _Files]:
        seen[key] += 1
        return (key if seen[key] == 1 else f"{key} ({seen[key]})"), files

    try:
        for member in stream.members():
            key, extension = _split(member.name)
            if last is None or key != last[0] or extension in last[1].extensions:
                if last is not None:
                    yield named(*last)
                last = key, _Files()
            if len(seen) > _MOST_SAMPLES or len(last[1].extensions) > _MOST_FILES:
                raise tarfile.ReadError("it holds more files than are listed")
            files, last = last[1], None  # one that breaks off while it is read is none
            _add(files, extension, member, stream, extensions, max_bytes)
            last = key, files
    except Exception:
        if last is not None and stream.reaches(last[1].end):
            yield named(*last)
        raise
    if last is not None:
        yield named(*last)


def _split(name: str) -> tuple[str, str]:
    folder, slash, file = name.removeprefix("./").rpartition("/")
    stem, _, extension = file.partition(".")
    return folder + slash + stem, extension.lower()


def _add(
    files: _Files, extension: str, member: Member, stream: TarStream, extensions: Collection[str], max_bytes: int
) -> None:
    files.extensions.add(extension)
    files.end = member.offset + (member.size if member.plain else 0)
    content = None
    if extension in _TEXTS and member.plain:
        content = stream.content(member) if member.size <= _TEXT_BYTES else None
        files.texts[extension] = content
    if files.member is None and extension.rpartition(".")[2] in extensions:
        files.member, files.content = member, content
        if stream.compressed and member.plain and member.size <= max_bytes and content is None:
            files.content = stream.content(member)
        elif member.plain and not stream.compressed:
            files.fingerprint = stream.fingerprint(member)


def _sample(
    files: _Files, name: str, shard: Entry, compressed: bool, fields: Mapping[str, str], max_bytes: int
) -> Sample | Loose:
    member = files.member
    if member is None:
        return Sample(name, (), etag=shard.etag, problem="no-content: the sample holds no image, sound or array")
    if not member.plain:  # what it stands for lies elsewhere, or not in one piece
        return Sample(name, (), etag=shard.etag, problem="unsupported: a link, a device or a sparse file in a tar file")
    if compressed and member.size > max_bytes:
        problem = f"too-many-bytes: {member.size} bytes, allowed are {max_bytes}"
        return Sample(name, (), etag=shard.etag, problem=problem)
    # A shard that was repacked has another etag, but an untouched file in it has not: its own time is taken.
    etag = f"{member.etag} {files.fingerprint}".rstrip()
    sample = Sample(name, () if compressed else (Part(shard.url, member.offset, member.size),), etag=etag)
    try:
        sample = sample.with_fields(_values(files.texts, fields))
    except (ValueError, RecursionError) as error:
        return sample.with_problem(f"bad-field: {error}")
    return Loose(sample, files.content or b"") if compressed else sample


def _values(texts: Mapping[str, bytes | None], fields: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if "cls" in texts and "label" in fields:
        values["label"] = int(_text(texts, "cls"))
    if "txt" in texts and "caption" in fields:
        values["caption"] = _text(texts, "txt").strip()
    if "json" in texts and fields.keys() - values.keys():
        described = json.loads(_text(texts, "json"))
        if not isinstance(described, dict):
            raise ValueError(f"its .json holds a {type(described).__name__} and no keys")
        values = described | values
    missing = fields.keys() - values.keys()
    if missing:
        raise ValueError(f"the sample has no {min(missing)}")
    return {name: to_json(values[name], dtype) for name, dtype in fields.items()}


def _text(texts: Mapping[str, bytes | None], extension: str) -> str:
    content = texts[extension]
    if content is None:
        raise ValueError(f"its .{extension} has more than {_TEXT_BYTES} bytes")
    return content.decode()
