"""Text files of which every line is a sample."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from typing import IO, Literal

import pyarrow as pa

from gan_lib.cluster.parallelize import parallelize
from gan_lib.core import storage
from gan_lib.core.config import Settings, Url
from gan_lib.core.listing import Branch, Entry, files_of, require_folder
from gan_lib.preprocessing.samples import COLUMNS, Part, Sample, in_batches, problem_in_reading
from gan_lib.preprocessing.sources.listing import Context, Listing, SourceError

_BLOCK_BYTES = 2**20


class LinesSource(Settings):
    """Each line of a text file, or of all files below a folder, is a sample; lines of nothing but spaces are none.

    A file that got further lines since the last version is read again, and only they are new.
    """

    kind: Literal["lines"]
    path: Url
    """file, folder or URL"""

    def listing(self, context: Context) -> Listing:
        """The lines, each the byte range that it is; one task lists one file.

        Raises:
            SourceError: nothing is at ``path``.
        """
        if storage.is_folder(self.path):
            root = require_folder(self.path)
            files = sorted(files_of(Branch(root, whole=True)), key=lambda entry: entry.url)
        elif storage.exists(self.path):
            url = storage.absolute(self.path)
            root, files = url.rpartition("/")[0], [Entry(url, 0, "")]
        else:
            raise SourceError(f"There is no text at {self.path}.")
        return Listing(parallelize(context.spark, files, partial(_list_file, root), COLUMNS))


def _list_file(root: str, entry: Entry) -> Iterator[pa.RecordBatch]:
    return in_batches(lines_of(entry, entry.key(root)))


def lines_of(entry: Entry, name: str) -> Iterator[Sample]:
    """The lines of a file, named by their number, of which the first is 1. Holds a block of the file at a time.

    A line's etag is the hash of its bytes.
    """
    if entry.problem is not None:
        yield Sample(name, (), etag=entry.etag, problem=str(entry.problem))
        return
    number = 0
    try:
        with storage.open_file(entry.url) as file:
            for number, offset, length, digest in _spans(file):
                if length:
                    yield Sample(f"{name}:{number:09d}", (Part(entry.url, offset, length),), etag=digest)
    except Exception as error:  # each store has its own exceptions; all of them mean that the rest cannot be had
        problem = problem_in_reading(error, entry.url, f"unreadable: after line {number}")
        yield Sample(name, (), etag=entry.etag, problem=problem)


def _spans(file: IO[bytes]) -> Iterator[tuple[int, int, int, str]]:
    """(number, offset, length, hash) of each line; length 0 where it is blank."""
    number, start, position = 1, 0, 0
    digest, blank = hashlib.blake2b(digest_size=8), True
    while block := file.read(_BLOCK_BYTES):
        *ended, rest = block.split(b"\n")
        for piece in ended:
            digest.update(piece)
            end = position + len(piece)
            yield number, start, 0 if blank and not piece.strip() else end - start, digest.hexdigest()
            position = start = end + 1
            number, digest, blank = number + 1, hashlib.blake2b(digest_size=8), True
        digest.update(rest)
        blank = blank and not rest.strip()
        position += len(rest)
    if position > start:
        yield number, start, 0 if blank else position - start, digest.hexdigest()
