"""Finds the shipped nets. They are read as the package's own resources, so that a zipped package has them too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

from gan_lib.core.errors import UserError
from gan_lib.export.artifact import DESCRIPTION, WEIGHTS

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable  # of Python 3.11 on

SCHEME = "shipped:"
"""What the URI of a shipped net begins with."""
CARD = "card.json"
"""How a net was made, and what was measured on it."""


def names() -> list[str]:
    """The nets that this package brings, by name."""
    return sorted(folder.name for folder in _root().iterdir() if folder.joinpath(DESCRIPTION).is_file())


def files_of(name: str) -> dict[str, bytes]:
    """The files of a net's artifact: file name -> content.

    Raises:
        UserError: no net of this name is shipped; says which are.
    """
    folder = _folder(name)
    return {file: folder.joinpath(file).read_bytes() for file in (WEIGHTS, DESCRIPTION)}


def card_of(name: str) -> Mapping[str, Any]:
    """How a net was made, as ``card.json`` tells: data, images seen, settings, figures, licence.

    Raises:
        UserError: no net of this name is shipped; says which are.
    """
    card: Mapping[str, Any] = json.loads(_folder(name).joinpath(CARD).read_bytes())
    return card


def _folder(name: str) -> Traversable:
    known = names()
    if name not in known:
        raise UserError(f"No net {name!r} is shipped; there are: {', '.join(known) or 'none'}.")
    return _root().joinpath(name)


def _root() -> Traversable:
    return resources.files("gan_lib.shipped")
