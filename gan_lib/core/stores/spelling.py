"""How a user spells a place: a path of this machine, or a URL whose scheme names a kind of store."""

from __future__ import annotations

import re

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://")
_LOCAL_SCHEMES = ("file", "local")


def split_scheme(url: str) -> tuple[str, str]:
    """The scheme in small letters, "file" where there is none, and what follows it."""
    found = _SCHEME.match(url)
    if found is None:
        return "file", url
    scheme = found[1].lower()
    return ("file" if scheme in _LOCAL_SCHEMES else scheme), url[found.end() :]


def is_local(url: str) -> bool:
    """Whether ``url`` lies on a disk of this machine (or one mounted into it)."""
    return split_scheme(url)[0] == "file"
