"""One paper, one file: its nets, its updates, its optimisers. Found by name; nothing needs to be registered.

A recipe is a module with ``class Settings(config.Settings)`` and ``build(settings) -> Recipe``.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from types import ModuleType

from gan_lib.core.errors import UserError


def names() -> list[str]:
    """The recipes that this package brings."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find(name: str) -> ModuleType:
    """The recipe called ``name``; a dotted name is that of a module outside this package.

    Raises:
        UserError: there is none, or the module is no recipe.
    """
    if "." not in name and name not in names():
        close = difflib.get_close_matches(name, names(), n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UserError(f"There is no recipe {name!r}; {hint}There are: {', '.join(names())}.")
    try:
        module = importlib.import_module(name if "." in name else f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        raise UserError(f"The recipe {name!r} cannot be imported: {error}.") from error
    for part in ("Settings", "build"):
        if not hasattr(module, part):
            raise UserError(f"{module.__name__} is no recipe: it has no {part}.")
    return module
