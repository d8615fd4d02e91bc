"""Where samples come from. Each source brings what is there to a DataFrame of ``preprocessing.samples.COLUMNS``.

A source is a settings class with a method ``listing``; a new kind of corpus is one more module here and one more name
in :data:`Source`. No source decodes anything, and none knows a medium.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gan_lib.preprocessing.sources.folder import CaptionedFolder, ClassFolders, FolderSource, UnpairedFolders
from gan_lib.preprocessing.sources.idx import IdxSource
from gan_lib.preprocessing.sources.lines import LinesSource
from gan_lib.preprocessing.sources.manifest import ManifestSource
from gan_lib.preprocessing.sources.paired import PairedFolders
from gan_lib.preprocessing.sources.table import TableSource
from gan_lib.preprocessing.sources.tar import TarSource

Source = Annotated[
    FolderSource
    | ClassFolders
    | CaptionedFolder
    | UnpairedFolders
    | PairedFolders
    | ManifestSource
    | TableSource
    | TarSource
    | IdxSource
    | LinesSource,
    Field(discriminator="kind"),
]
"""The ``source`` section of a preprocessing configuration; its ``kind`` says which one is meant."""
