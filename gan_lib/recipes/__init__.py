"""One paper, one file: its nets, its updates, its optimisers. Found by name; nothing needs to be registered.

A recipe is a module with ``class Settings(config.Settings)`` and ``build(settings, data) -> Recipe``. It is found under
the name of its file here, under its dotted name wherever it can be imported from, or under the name that an installed
package gives it among its entry points of the group ``gan_lib.recipes``.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from importlib import metadata
from types import ModuleType

from gan_lib.core.errors import UserError

ENTRY_POINTS = "gan_lib.recipes"
_PARTS = ("Settings", "build")


def names() -> list[str]:
    """The recipes of this package and of all installed ones."""
    return sorted({*_built_in(), *_installed()})


def find(name: str) -> ModuleType:
    """The recipe called ``name``: one of :func:`names`, or the dotted name of a module.

    A name of this package's own means its own, whatever else is installed.

    Raises:
        UserError: there is none, it cannot be imported, or it is no recipe.
    """
    module = _imported(name)
    for part in _PARTS:
        if not hasattr(module, part):
            raise UserError(f"{module.__name__} is no recipe: it has no {part}.")
    return module


def _modules() -> list[str]:
    """All modules beside this one, recipes or not."""
    return [module.name for module in pkgutil.iter_modules(__path__)]


def _built_in() -> list[str]:
    modules = {name: importlib.import_module(f"{__name__}.{name}") for name in _modules()}
    return [name for name, module in modules.items() if all(hasattr(module, part) for part in _PARTS)]


def _installed() -> dict[str, metadata.EntryPoint]:
    return {point.name: point for point in metadata.entry_points(group=ENTRY_POINTS)}


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(_path(name))
    except ImportError as error:
        raise UserError(f"The recipe {name!r} cannot be imported: {error}.") from error


def _path(name: str) -> str:
    """What is imported for the recipe called ``name``."""
    if "." in name:
        return name
    if name in _modules():
        return f"{__name__}.{name}"
    installed = _installed()
    if name in installed:
        return installed[name].value
    close = difflib.get_close_matches(name, names(), n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise UserError(f"There is no recipe {name!r}; {hint}There are: {', '.join(names())}.")
