"""Where the samples of an evaluation are: images or pairs, in folders or in a published dataset."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gan_lib.core.config import Settings, Url


class FolderPairs(Settings):
    """Two folders, whose files belong together where their names are equal but for the suffix."""

    kind: Literal["folders"] = "folders"
    input: Url
    """Folder of what the models are given: images, or label maps where a model takes those."""
    target: Url
    """Folder of what should come of it."""


class DatasetPairs(Settings):
    """A split of a published dataset. Fields called like further inputs of a model are given to it."""

    kind: Literal["dataset"]
    url: Url
    """The dataset."""
    split: str = "test"
    """One that training never saw."""
    version: int | None = None
    """None: the newest."""
    input: str = "input"
    """Field that the models are given."""
    target: str = "target"
    """Field with what should come of it."""


class FolderImages(Settings):
    """Every image below a folder."""

    kind: Literal["folder"] = "folder"
    url: Url
    """The folder."""


class DatasetImages(Settings):
    """A field of a split of a published dataset."""

    kind: Literal["dataset"]
    url: Url
    """The dataset."""
    split: str = "test"
    """One that training never saw."""
    version: int | None = None
    """None: the newest."""
    image: str = "image"
    """Field that holds the images."""


Pairs = Annotated[FolderPairs | DatasetPairs, Field(discriminator="kind")]
Images = Annotated[FolderImages | DatasetImages, Field(discriminator="kind")]
