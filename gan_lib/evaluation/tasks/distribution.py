"""Tasks without a target: unpaired translation and generation, measured by their distribution, and by eye."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from gan_lib.core.errors import UserError
from gan_lib.core.images import ImageRejected, Limits, Pixels, decode
from gan_lib.evaluation.cases import Case, Piece, image_blocks
from gan_lib.evaluation.comparison import whole_in_cell
from gan_lib.evaluation.data_settings import FolderImages
from gan_lib.evaluation.inputs_shown import show_whole_input
from gan_lib.evaluation.measured import INPUT, Measured
from gan_lib.evaluation.measuring.sets import BLOCK, SetMeasures, SetMember, measure_sets, pack, set_measures
from gan_lib.evaluation.prediction import Outcome, as_rgb, load_predictors, predict
from gan_lib.evaluation.settings import DistributionSettings, GenerationSettings, UnpairedTranslationSettings
from gan_lib.evaluation.tasks.paired_translation import require_same_size
from gan_lib.export.artifact import Artifact
from gan_lib.export.ports import Image, Label, Port
from gan_lib.metrics.sets.measures import SetStatistics
from gan_lib.scoring.generation.conditions import conditions_of
from gan_lib.scoring.generation.maker import SampleMaker
from gan_lib.scoring.generation.rows import Sample, SampleRow
from gan_lib.scoring.model import Model, device_of_task, unpacked
from gan_lib.scoring.predictor import TilePredictor

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

REFERENCE = "reference"
_SEEDS_A_PIECE = 64  # a multiple of BLOCK
_First = tuple[int, Piece]
"""The position of a piece's first sample, and the piece."""


def translate_unpaired(
    spark: SparkSession, settings: UnpairedTranslationSettings, models: Mapping[str, Model]
) -> Outcome:
    """Translate every image by ``models``.

    Raises:
        UserError: the images or the reference are not there, or a model does not translate images.
    """
    require_same_size(models)
    measures = set_measures(spark, settings.metrics, settings.features, settings.classifiers)
    names, pieces = image_blocks(settings.images, settings.limits, BLOCK)
    shown = frozenset(names[: settings.grid_rows])
    make = partial(_translate_piece, models=models, settings=settings, shown=shown)
    tasks = pack(spark, _with_first(pieces), [len(piece.names()) for piece in pieces])
    rows, sets = measure_sets(spark, tasks, make, measures, list(models), len(names))
    return _outcome(spark, settings, measures, rows, sets, [INPUT, *models])


def generate(spark: SparkSession, settings: GenerationSettings, models: Mapping[str, Model]) -> Outcome:
    """Make the same seeds' samples by ``models``.

    Raises:
        UserError: a model takes an image, or gives none, or the reference is not there.
    """
    for name, model in models.items():
        _require_generator(name, model)
    measures = set_measures(spark, settings.metrics, settings.features, settings.classifiers)
    seeds = range(settings.seed, settings.seed + settings.samples)
    pieces = [seeds[start : start + _SEEDS_A_PIECE] for start in range(0, len(seeds), _SEEDS_A_PIECE)]
    make = partial(_generate_piece, models=models, settings=settings)
    tasks = pack(spark, pieces, [len(piece) for piece in pieces])
    rows, sets = measure_sets(spark, tasks, make, measures, list(models), len(seeds))
    return _outcome(spark, settings, measures, rows, sets, list(models))


def _outcome(
    spark: SparkSession,
    settings: DistributionSettings,
    measures: SetMeasures | None,
    rows: list[Measured],
    sets: Mapping[str, SetStatistics],
    columns: Sequence[str],
) -> Outcome:
    if measures is None:
        return Outcome(rows, columns)
    reference = None
    if measures.need_reference and settings.reference is not None:
        rejects, reference = measure_reference(spark, settings, measures)
        rows = [*rows, *rejects]
    samples = min(one.count for one in (*sets.values(), *([reference] if reference is not None else [])))
    protocols = measures.protocols(samples)
    return Outcome(
        rows,
        columns,
        protocol={name: str(protocol) for name, protocol in protocols.items()},
        figures=measures.figures(sets, reference),
        keys={name: protocol.key(name) for name, protocol in protocols.items()},
    )


def measure_reference(
    spark: SparkSession, settings: DistributionSettings, measures: SetMeasures
) -> tuple[list[Measured], SetStatistics]:
    """Rows of the images that could not be read, and the statistics of all others.

    Raises:
        UserError: the reference is not there.
    """
    assert settings.reference is not None
    source = settings.reference.url if isinstance(settings.reference, FolderImages) else settings.reference
    names, pieces = image_blocks(source, settings.limits, BLOCK)
    tasks = pack(spark, _with_first(pieces), [len(piece.names()) for piece in pieces])
    make = partial(_read_piece, limits=settings.limits)
    rows, sets = measure_sets(spark, tasks, make, measures, [REFERENCE], len(names))
    return rows, sets[REFERENCE]


def _with_first(pieces: Sequence[Piece]) -> list[_First]:
    first, found = 0, []
    for piece in pieces:
        found.append((first, piece))
        first += len(piece.names())
    return found


def _read_piece(piece: _First, limits: Limits) -> Iterator[SetMember]:
    first, cases = piece
    for position, case in enumerate(cases.cases(), first):
        try:
            yield SetMember(position, [], {REFERENCE: decode(case.read().input, limits)})
        except ImageRejected as reject:
            yield SetMember(position, [Measured(f"{REFERENCE} {case.name}", REFERENCE, reason=str(reject))], {})


def _require_generator(name: str, model: Model) -> None:
    description = model.description
    if description.image_input is not None:
        raise UserError(
            f"The model {name} ({model.uri}) takes an image: set task to paired_translation or unpaired_translation."
        )
    conditions_of(description.inputs)
    if not isinstance(description.outputs.get(description.image_output or ""), Image):
        kinds = ", ".join(port.kind for port in description.outputs.values())
        raise UserError(
            f"The model {name} ({model.uri}) gives {kinds} and no image, and this task compares images alone: make its "
            "samples with jobs/generate.py, and measure them by gan_lib.metrics.sound, tokens or voxels."
        )


def _translate_piece(
    piece: _First, models: Mapping[str, Model], settings: UnpairedTranslationSettings, shown: frozenset[str]
) -> Iterator[SetMember]:
    predictors = load_predictors(models)
    first, cases = piece
    for position, case in enumerate(cases.cases(), first):
        images: dict[str, Pixels] = {}
        rows = list(_translate(case, predictors, settings.limits, case.name in shown, images))
        yield SetMember(position, rows, images)


def _translate(
    case: Case, predictors: Mapping[str, TilePredictor], limits: Limits, shown: bool, images: dict[str, Pixels]
) -> Iterator[Measured]:
    """The rows of one sample; what the models make of it goes into ``images``."""
    try:
        content = case.read()
        first = next(iter(predictors.values())).artifact
        yield Measured(case.name, INPUT, crop=show_whole_input(content.input, first, limits) if shown else None)
    except ImageRejected as reject:
        yield Measured(case.name, INPUT, reason=str(reject))
        return
    for method, predictor in predictors.items():
        try:
            images[method] = predict(predictor, content.input, limits)
            yield Measured(case.name, method, crop=whole_in_cell(images[method]) if shown else None)
        except ImageRejected as reject:
            yield Measured(case.name, method, reason=str(reject))


def _generate_piece(
    seeds: Sequence[int], models: Mapping[str, Model], settings: GenerationSettings
) -> Iterator[SetMember]:
    samples = {method: _generate(seeds, model, settings) for method, model in models.items()}
    for number, seed in enumerate(seeds):
        shown = seed < settings.seed + settings.grid_rows
        images = {
            method: image
            for method, (found, output) in samples.items()
            if (image := _image(found[number], output)) is not None
        }
        rows = [
            _generated(f"seed {seed:08d}", method, found[number], images.get(method), shown)
            for method, (found, _) in samples.items()
        ]
        yield SetMember(seed, rows, images)


def _image(sample: Sample, output: str) -> Pixels | None:
    return None if sample.arrays is None else as_rgb(sample.arrays[output])


def _generated(name: str, method: str, sample: Sample, image: Pixels | None, shown: bool) -> Measured:
    if image is None:
        return Measured(name, method, reason=f"{sample.reason}: {sample.message}")
    return Measured(name, method, crop=whole_in_cell(image) if shown else None)


def _generate(seeds: Sequence[int], model: Model, settings: GenerationSettings) -> tuple[list[Sample], str]:
    """The samples of ``seeds``, and the output that is their image."""
    artifact = Artifact.load(unpacked(model), model.trusted)
    rows = [SampleRow(str(seed), seed, conditions_for(seed, artifact.inputs, settings.conditions)) for seed in seeds]
    return list(SampleMaker(artifact, device_of_task()).run(rows)), str(artifact.image_output)


def conditions_for(seed: int, inputs: Mapping[str, Port], given: Mapping[str, Any]) -> dict[str, Any]:
    """The conditions of one sample: those that are given, and for labels else the classes in turn."""
    taken = {name: given[name] for name in inputs if name in given}
    labels = {name: seed % port.classes for name, port in inputs.items() if isinstance(port, Label)}
    return {**labels, **taken}
