"""The one error of this package."""

from __future__ import annotations

from gan_lib.core.errors import UserError


class ArtifactError(UserError):
    """An artifact that cannot be built, saved or loaded; the message names the folder or class and what is wrong."""
