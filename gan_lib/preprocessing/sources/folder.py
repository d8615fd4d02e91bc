"""Folders of images: plain, with classes as names of folders, with captions beside the images, two domains."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
from pydantic import Field

from gan_lib.cluster.parallelize import parallelize
from gan_lib.core import storage
from gan_lib.core.config import Settings
from gan_lib.core.listing import Branch, Entry, branches_by_task, files_of, require_folder, subfolders
from gan_lib.preprocessing.samples import COLUMNS, Item, Part, in_batches
from gan_lib.preprocessing.sources.listing import Context, Listing, SourceError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_CAPTION_SUFFIX = ".txt"
_CAPTION_BYTES = 2**20  # what is longer is no caption


class FolderSource(Settings):
    """Every file below ``path`` is a sample, whatever it is called; names that begin with a dot are passed over."""

    kind: Literal["folder"] = "folder"
    path: str
    """folder or URL"""

    def listing(self, context: Context) -> Listing:
        """The files below ``path``.

        Raises:
            UserError: there is no such folder.
        """
        return Listing(list_folder(context, self.path, plain_items))


class ClassFolders(Settings):
    """One folder for each class: the name of the first folder below ``path`` becomes the field ``label``, an int64."""

    kind: Literal["class_folders"]
    path: str
    """folder or URL"""

    def listing(self, context: Context) -> Listing:
        """The files below ``path``; classes are numbered in the order of their names.

        Raises:
            SourceError: there is no such folder, or none below it.
        """
        root = require_folder(self.path)
        names = [folder.rstrip("/").rpartition("/")[2] for folder in subfolders(root)]
        if not names:
            raise SourceError(f"{self.path} holds no folders, and each should be a class.")
        classes = context.numbered("label", names)
        numbers = {name: number for number, name in enumerate(classes)}
        frame = list_folder(context, root, partial(_labelled_items, numbers))
        return Listing(frame, fields={"label": "int64"}, classes={"label": classes})


class CaptionedFolder(Settings):
    """Images with a text file of the same name beside each; its content becomes the field ``caption``."""

    kind: Literal["captioned_folder"]
    path: str
    """folder or URL"""

    def listing(self, context: Context) -> Listing:
        """The images below ``path``; one without a text is a reject, and so is a text without an image.

        Raises:
            UserError: there is no such folder.
        """
        return Listing(list_folder(context, self.path, _captioned_items), fields={"caption": "str"})


class UnpairedFolders(Settings):
    """Several domains, not paired, as CycleGAN learns from; the field ``label`` tells them apart.

    Trainings that read each domain as a dataset of its own take two runs with a plain folder instead.
    """

    kind: Literal["unpaired_folders"]
    domains: dict[str, str] = Field(min_length=2)
    """name of a domain -> folder or URL"""

    def listing(self, context: Context) -> Listing:
        """The files of all domains; a sample's name begins with its domain.

        Raises:
            UserError: one of the folders is not there.
        """
        classes = context.numbered("label", self.domains)
        frames = [
            list_folder(context, path, partial(_domain_items, name, classes.index(name)))
            for name, path in self.domains.items()
        ]
        frame = frames[0]
        for other in frames[1:]:
            frame = frame.union(other)
        return Listing(frame, fields={"label": "int64"}, classes={"label": classes})


ItemsOf = Callable[[str, Iterable[Entry]], Iterator[Item]]
"""(root, files of one branch) -> samples"""


def list_folder(context: Context, url: str, items_of: ItemsOf) -> DataFrame:
    """The files below a folder as a DataFrame of items, listed in Spark tasks.

    Raises:
        UserError: there is no such folder.
    """
    root = require_folder(url)
    return parallelize(context.spark, branches_by_task(root), partial(_list_branches, root, items_of), COLUMNS)


def _list_branches(root: str, items_of: ItemsOf, branches: list[Branch]) -> Iterator[pa.RecordBatch]:
    return in_batches(item for branch in branches for item in items_of(root, files_of(branch)))


def plain_items(root: str, entries: Iterable[Entry]) -> Iterator[Item]:
    """A sample for each file; its name is its path below ``root``."""
    for entry in entries:
        name = entry.key(root)
        try:
            name.encode()
        except UnicodeEncodeError:
            readable = name.encode("utf-8", "backslashreplace").decode()
            yield Item(readable, (), stamp=entry.etag, problem="bad-name: it is not valid UTF-8")
        else:
            yield Item(name, (Part(entry.url, 0, entry.size),), stamp=entry.etag)


def _labelled_items(numbers: Mapping[str, int], root: str, entries: Iterable[Entry]) -> Iterator[Item]:
    for item in plain_items(root, entries):
        folder, below, _ = item.name.partition("/")
        if below and folder in numbers:
            yield item.with_fields({"label": numbers[folder]})
        else:
            yield item.with_problem("no-label: it lies in no class folder")


def _domain_items(domain: str, number: int, root: str, entries: Iterable[Entry]) -> Iterator[Item]:
    for item in plain_items(root, entries):
        yield item.renamed(f"{domain}/{item.name}").with_fields({"label": number})


def _captioned_items(root: str, entries: Iterable[Entry]) -> Iterator[Item]:
    """Holds the names of one branch at a time."""
    items = list(plain_items(root, entries))
    texts = {_stem(item.name): item for item in items if item.name.endswith(_CAPTION_SUFFIX)}
    for item in items:
        if item.name.endswith(_CAPTION_SUFFIX):
            continue
        text = texts.pop(_stem(item.name), None)
        if text is None or not text.parts:
            yield item.with_problem(f"no-caption: there is no {_stem(item.name)}{_CAPTION_SUFFIX}")
            continue
        try:
            caption = storage.read_range(text.parts[0].url, 0, _CAPTION_BYTES).decode().strip()
            yield item.with_fields({"caption": caption})
        except (OSError, UnicodeDecodeError) as error:
            yield item.with_problem(f"no-caption: {text.name} cannot be read: {error}")
    for text in texts.values():
        yield text.with_problem("no-image: the caption has no image beside it")


def _stem(name: str) -> str:
    folder, slash, file = name.rpartition("/")
    return folder + slash + (file.rpartition(".")[0] or file)
