"""Whose nets may be built: importing a module runs it, so a foreign description must not choose it freely."""

from __future__ import annotations

import os
from collections.abc import Sequence

HOUSE = "gan_lib.nets"
VARIABLE = "GAN_LIB_TRUSTED_PACKAGES"


def trusted_packages(extra: Sequence[str] = ()) -> tuple[str, ...]:
    """This package's nets, those that ``GAN_LIB_TRUSTED_PACKAGES`` names between commas, and ``extra``; each once."""
    named = os.environ.get(VARIABLE, "").split(",")
    return tuple(dict.fromkeys(name for name in (HOUSE, *(part.strip() for part in named), *extra) if name))


def is_trusted(module: str, trusted: Sequence[str]) -> bool:
    """Whether ``module`` is one of the packages ``trusted`` or lies within one."""
    return any(module == package or module.startswith(f"{package}.") for package in trusted)
