"""A published file, whole: read, recognised, and made an artifact."""

from __future__ import annotations

from gan_lib.core.errors import UserError
from gan_lib.importing.from_spandrel import import_by_spandrel, is_spandrel_trusted
from gan_lib.importing.reading import PublishedWeights, read_published
from gan_lib.importing.recognition import Imported, import_known, recognised
from gan_lib.importing.settings import ImportSettings


def import_published(settings: ImportSettings) -> tuple[PublishedWeights, Imported]:
    """The file's weights, and the artifact that they make.

    Raises:
        UserError: nothing is to become of it.
        PublishedFileError: see :mod:`gan_lib.importing.reading` and :mod:`gan_lib.importing.recognition`.
    """
    if settings.model is None and settings.start is None and settings.output is None:
        raise UserError("Nothing would come of this import: set model.name to register it, or output, or start.folder.")
    weights = read_published(settings.file, settings.max_megabytes, settings.entry)
    if recognised(weights) is None and is_spandrel_trusted(settings.trusted_packages):
        return weights, import_by_spandrel(weights, settings.trusted_packages)
    return weights, import_known(weights, settings.choices)


def tags_of(weights: PublishedWeights, imported: Imported) -> dict[str, str]:
    """What a registered version tells of the file that it came from."""
    return {
        "gan_lib_file": weights.name,
        "gan_lib_file_sha256": weights.sha256,
        "gan_lib_file_format": imported.format,
    }
