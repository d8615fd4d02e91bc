"""Enlarges photos in this process: the pipeline of scoring, on the GPU if there is one, else on all cores.

A result that is there already, made of the same photo by the same model in the same way, is kept, as
:mod:`gan_lib.scoring.batch` does, and each of the two knows the other's results.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch

from gan_lib.core import storage
from gan_lib.core.errors import Rejected, UserError
from gan_lib.core.listing import readable
from gan_lib.enlarging.photos import Photo, find_photos
from gan_lib.enlarging.scratch import scratch_folder
from gan_lib.enlarging.settings import EnlargeSettings
from gan_lib.scoring.encoding import provenance
from gan_lib.scoring.encoding.result_writer import ResultWriter, Tag
from gan_lib.scoring.inputs.decoders import columns_beside, require_image_to_image
from gan_lib.scoring.inputs.reading import read_file
from gan_lib.scoring.model_cache import digest_of
from gan_lib.scoring.model_sources import FoundModel, find_model
from gan_lib.scoring.pipeline import Pipeline, Request
from gan_lib.scoring.predictor import TilePredictor


@dataclass
class Outcome:
    """What became of the photos."""

    enlarged: int = 0
    kept: int = 0
    """Whose results were there."""
    megapixels: float = 0.0
    """Of the results that were made."""
    precisions: dict[str, int] = field(default_factory=dict)
    """Number format -> how many results were computed in it."""
    rejected: list[str] = field(default_factory=list)
    """A sentence for each photo without a result."""

    def count(self, request: Request) -> None:
        """Count a photo that the pipeline has done with."""
        if request.reason is not None:
            self.rejected.append(f"{readable(request.key)}: {request.message} ({request.reason}).")
        elif request.skipped:
            self.kept += 1
        else:
            self.enlarged += 1
            self.megapixels += request.width * request.height / 1e6
            precision = str(request.precision)
            self.precisions[precision] = self.precisions.get(precision, 0) + 1


def enlarge(
    paths: Sequence[str], settings: EnlargeSettings, begin: Callable[[int], Callable[[], object]] | None = None
) -> Outcome:
    """Enlarge the files ``paths``, and those of the folders among them, into ``settings.output``.

    ``begin`` is told how many photos there are, and gives what is called once each of them is done.

    Raises:
        UserError: a path, the model or the output cannot be used.
        MachineInTrouble: such as a full disk.
        StoreUnavailable: the output cannot be written now.
    """
    output = storage.absolute(settings.output)
    settings = settings.model_copy(update={"output": output})
    _require_folder_or_nothing(output)
    photos = find_photos(paths, settings.files)
    found = find_model(settings.model, None, settings.trusted_packages, settings.interpolation)
    _require_image_alone(found)
    done = begin(len(photos)) if begin is not None else lambda: None
    with scratch_folder(output) as scratch:
        return _run(photos, found, settings, scratch, done)


def _run(
    photos: Sequence[Photo], found: FoundModel, settings: EnlargeSettings, scratch: str, done: Callable[[], object]
) -> Outcome:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    predictor = TilePredictor(found.load(settings.trusted_packages), device, settings.tiling)
    writer = ResultWriter(settings.files, _lineage(found, settings), "", scratch)
    threads = max(2, os.cpu_count() or 1)
    pipeline = Pipeline(predictor, settings.limits, writer.finish, partial(_known, writer), threads)
    outcome = Outcome()
    for request in pipeline.run(_requests(photos, settings)):
        outcome.count(request)
        done()
    return outcome


def _requests(photos: Sequence[Photo], settings: EnlargeSettings) -> Iterator[Request]:
    for photo in photos:
        read = partial(read_file, photo.url, settings.limits, photo.problem)
        yield Request(photo.url, read, tag=Tag(photo.output))


def _known(writer: ResultWriter, request: Request) -> bool:
    """Whether the result is there.

    Raises:
        Rejected: something else is there, which nobody has said to overwrite.
    """
    if writer.known(request):
        return True
    url = storage.join(writer.output.url, request.tag.output)
    if storage.is_local(url) and os.path.lexists(url) and provenance.read(url) is None:
        raise Rejected("already-there", f"{url} is there and is no result of gan_lib: move it, or name another output")
    return False


def _lineage(found: FoundModel, settings: EnlargeSettings) -> dict[str, str]:
    words = {"model": found.name, "version": found.version, "weights": digest_of(found.files)[:12]}
    return {**words, "settings": settings.digest()}


def _require_folder_or_nothing(output: str) -> None:
    if storage.exists(output) and not storage.is_folder(output):
        raise UserError(f"The output {readable(output)} is a file: name a folder, which is made where there is none.")


def _require_image_alone(found: FoundModel) -> None:
    require_image_to_image(found.uri, found.description)
    needed = [column.name for column in columns_beside(found.description) if not column.optional]
    if needed:
        raise UserError(
            f"The model {found.uri} takes {', '.join(needed)} beside the image: let jobs/score.py apply it."
        )
