"""A folder of pictures and the folders below it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Literal

import pyarrow as pa

from gan_lib.config import Settings
from gan_lib.corpus.items import COLUMNS, Item, Part, in_batches
from gan_lib.corpus.sources.listing import Branch, Context, Entry, Listing, branches, files_of, require_folder
from gan_lib.corpus.spread import spread


class FolderSource(Settings):
    """Every file below ``path`` is a sample, whatever it is called; names that begin with a dot are passed over."""

    kind: Literal["folder"] = "folder"
    path: str
    """folder or URL"""

    def listing(self, context: Context) -> Listing:
        """The files below ``path``.

        Raises:
            SourceError: there is no such folder.
        """
        root = require_folder(self.path)
        return Listing(spread(context.spark, branches(root), partial(_list_branch, root), COLUMNS))


def _list_branch(root: str, branch: Branch) -> Iterator[pa.RecordBatch]:
    return in_batches(_item(root, entry) for entry in files_of(branch))


def _item(root: str, entry: Entry) -> Item:
    name = entry.path[len(root) :].lstrip("/")
    try:
        name.encode()
    except UnicodeEncodeError:
        readable = name.encode("utf-8", "backslashreplace").decode()
        return Item(readable, (), stamp=entry.stamp, problem="bad-name: its name is not valid UTF-8")
    return Item(name, (Part(entry.path, 0, entry.size),), stamp=entry.stamp)
