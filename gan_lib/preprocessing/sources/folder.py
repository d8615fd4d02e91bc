"""Folders of files: plain, with classes as names of folders, with captions beside the files, several domains."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
from pydantic import Field

from gan_lib.cluster.parallelize import parallelize
from gan_lib.core import storage
from gan_lib.core.config import Settings, Url
from gan_lib.core.listing import Branch, Entry, branches_by_task, files_of, readable, require_folder, subfolders
from gan_lib.preprocessing.samples import COLUMNS, Part, Sample, in_batches, problem_in_reading
from gan_lib.preprocessing.sources.listing import Context, Listing, SourceError
from gan_lib.preprocessing.sources.name_labels import NamePattern, labelled_by_name

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_CAPTION_SUFFIX = ".txt"
_CAPTION_BYTES = 2**20  # what is longer is no caption


class FolderSource(Settings):
    """Every file below ``path`` is a sample, whatever it is called; names that begin with a dot are passed over, and so
    are links to folders. Links to files are read."""

    kind: Literal["folder"] = "folder"
    path: Url
    """folder or URL"""
    labels_from_name: NamePattern | None = None
    """regular expression whose named groups, found in each file's path below ``path``, become fields of classes"""

    def listing(self, context: Context) -> Listing:
        """The files below ``path``.

        Raises:
            UserError: there is no such folder, or ``labels_from_name`` does not suit what is in it.
        """
        return labelled_by_name(Listing(list_folder(context, self.path, plain_samples)), self.labels_from_name, context)


class ClassFolders(Settings):
    """One folder for each class: the name of the first folder below ``path`` becomes the field ``label``, an int64."""

    kind: Literal["class_folders"]
    path: Url
    """folder or URL"""

    def listing(self, context: Context) -> Listing:
        """The files below ``path``; classes are numbered in the order of their names.

        Raises:
            SourceError: there is no such folder, or none below it.
        """
        root = require_folder(self.path)
        names = [readable(folder.rstrip("/").rpartition("/")[2]) for folder in subfolders(root)]
        if not names:
            raise SourceError(f"{self.path} holds no folders, and each should be a class.")
        classes = context.numbered("label", names)
        numbers = {name: number for number, name in enumerate(classes)}
        frame = list_folder(context, root, partial(_labelled_samples, numbers))
        return Listing(frame, fields={"label": "int64"}, classes={"label": classes})


class CaptionedFolder(Settings):
    """Files with a text file of the same name beside each; its content becomes the field ``caption``."""

    kind: Literal["captioned_folder"]
    path: Url
    """folder or URL"""
    labels_from_name: NamePattern | None = None
    """regular expression whose named groups, found in each file's path below ``path``, become fields of classes"""

    def listing(self, context: Context) -> Listing:
        """The files below ``path``; one without a text is a reject, and so is a text without another file.

        Raises:
            UserError: there is no such folder, or ``labels_from_name`` does not suit what is in it.
        """
        listing = Listing(list_folder(context, self.path, _captioned_samples), fields={"caption": "str"})
        return labelled_by_name(listing, self.labels_from_name, context)


class UnpairedFolders(Settings):
    """Several domains, not paired, as CycleGAN learns from; the field ``label`` tells them apart.

    Trainings that read each domain as a dataset of its own take two runs with a plain folder instead.
    """

    kind: Literal["unpaired_folders"]
    domains: dict[str, Url] = Field(min_length=2)
    """name of a domain -> folder or URL"""

    def listing(self, context: Context) -> Listing:
        """The files of all domains; a sample's name begins with its domain.

        Raises:
            UserError: one of the folders is not there.
        """
        classes = context.numbered("label", self.domains)
        frames = [
            list_folder(context, path, partial(_domain_samples, name, classes.index(name)))
            for name, path in self.domains.items()
        ]
        frame = frames[0]
        for other in frames[1:]:
            frame = frame.union(other)
        return Listing(frame, fields={"label": "int64"}, classes={"label": classes})


SamplesOf = Callable[[str, Iterable[Entry]], Iterator[Sample]]
"""(root, files of one branch) -> samples"""


def list_folder(context: Context, url: str, samples_of: SamplesOf) -> DataFrame:
    """The files below a folder as a DataFrame of samples, listed in Spark tasks.

    Raises:
        UserError: there is no such folder.
    """
    root = require_folder(url)
    return parallelize(context.spark, branches_by_task(root), partial(_list_branches, root, samples_of), COLUMNS)


def _list_branches(root: str, samples_of: SamplesOf, branches: list[Branch]) -> Iterator[pa.RecordBatch]:
    return in_batches(sample for branch in branches for sample in samples_of(root, files_of(branch)))


def plain_samples(root: str, entries: Iterable[Entry]) -> Iterator[Sample]:
    """A sample for each file; its name is its path below ``root``."""
    for entry in entries:
        name = entry.key(root)
        if entry.problem is not None:
            yield Sample(name, (), etag=entry.etag, problem=str(entry.problem))
        else:
            yield Sample(name, (Part(entry.url, 0, entry.size),), etag=entry.etag)


def _labelled_samples(numbers: Mapping[str, int], root: str, entries: Iterable[Entry]) -> Iterator[Sample]:
    for sample in plain_samples(root, entries):
        folder, below, _ = sample.name.partition("/")
        if below and folder in numbers:
            yield sample.with_fields({"label": numbers[folder]})
        else:
            yield sample.with_problem("no-label: it lies in no class folder")


def _domain_samples(domain: str, number: int, root: str, entries: Iterable[Entry]) -> Iterator[Sample]:
    for sample in plain_samples(root, entries):
        yield sample.renamed(f"{domain}/{sample.name}").with_fields({"label": number})


def _captioned_samples(root: str, entries: Iterable[Entry]) -> Iterator[Sample]:
    """Holds the names of one branch at a time."""
    samples = list(plain_samples(root, entries))
    texts = {_stem(sample.name): sample for sample in samples if sample.name.endswith(_CAPTION_SUFFIX)}
    for sample in samples:
        if sample.name.endswith(_CAPTION_SUFFIX):
            continue
        text = texts.pop(_stem(sample.name), None)
        if text is None or not text.parts:
            yield sample.with_problem(f"no-caption: there is no {_stem(sample.name)}{_CAPTION_SUFFIX}")
            continue
        try:
            caption = storage.read_range(text.parts[0].url, 0, _CAPTION_BYTES).decode().strip()
            captioned = sample.with_fields({"caption": caption})
        except Exception as error:  # each store has its own exceptions
            reason = f"no-caption: {text.name} cannot be read"
            captioned = sample.with_problem(problem_in_reading(error, text.parts[0].url, reason))
        yield captioned
    for text in texts.values():
        yield text.with_problem("no-content: the caption has no other file beside it")


def _stem(name: str) -> str:
    folder, slash, file = name.rpartition("/")
    return folder + slash + (file.rpartition(".")[0] or file)
