"""Which photos are meant by files and folders, and where each result goes. Opens no file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gan_lib.core import storage
from gan_lib.core.errors import UserError
from gan_lib.core.listing import file_at, readable
from gan_lib.scoring.inputs.files import list_files, name_outputs
from gan_lib.scoring.settings import OutputSettings


class Photo(NamedTuple):
    """A file that is to be enlarged."""

    url: str
    key: str
    """Its path below the output, but for the suffix."""
    problem: str | None
    """Why it cannot be read as it is called."""
    output: str = ""
    """Path of the result below the output."""


def find_photos(paths: Sequence[str], output: OutputSettings) -> list[Photo]:
    """The files of ``paths``, each a file or a folder on any store, whose files count at any depth; each file once.

    Files keep their paths below their folder; where several paths are given, a folder's come below its own name. Where
    the output lies in a folder, what lies in the output is no input.

    Raises:
        UserError: a path is not there, nothing is to be done, or results would get among the photos.
    """
    found: dict[str, Photo] = {}
    for path in paths:
        for photo in _photos_at(path, storage.absolute(output.url), several=len(paths) > 1):
            found.setdefault(photo.url, photo)
    if not found:
        raise UserError(f"There are no files to enlarge in {', '.join(readable(path) for path in paths)}.")
    photos = list(found.values())
    names = name_outputs([photo.key for photo in photos], output)
    photos = [photo._replace(output=str(name)) for photo, name in zip(photos, names, strict=True)]
    _require_not_overwritten(photos, output.url)
    return photos


def _photos_at(path: str, output: str, several: bool) -> Iterator[Photo]:
    if not storage.exists(path):
        raise UserError(f"There is no file or folder {readable(path)}.")
    url = storage.absolute(path)
    if not storage.is_folder(path):
        problem = file_at(url).problem
        yield Photo(url, readable(os.path.basename(url)), None if problem is None else problem.message)
        return
    if url.rstrip("/") == output.rstrip("/"):
        raise UserError(
            f"{readable(path)} is the output too, and results would be enlarged again: name another output."
        )
    above = f"{readable(os.path.basename(url.rstrip('/')))}/" if several else ""
    for file in list_files(url):
        photo = Photo(storage.join(url, file.key), f"{above}{file.key}", file.problem)
        if not (_is_below(output, url) and _is_below(photo.url, output)):
            yield photo


def _is_below(url: str, folder: str) -> bool:
    return url.startswith(f"{folder.rstrip('/')}/")


def _require_not_overwritten(photos: Sequence[Photo], output: str) -> None:
    urls = {photo.url for photo in photos}
    for photo in photos:
        if storage.join(storage.absolute(output), photo.output) in urls:
            raise UserError(f"The result of {readable(photo.url)} would overwrite a photo: name another output folder.")
