"""A whole training on one rank: from an empty folder, or from wherever the last one was killed, to its export."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from tqdm import tqdm

from gan_lib.core import storage
from gan_lib.core.allocator import keep_freed_memory
from gan_lib.core.errors import UserError
from gan_lib.core.precision import dtype_of
from gan_lib.core.progress_bar import progress_bar
from gan_lib.core.random import seed_torch
from gan_lib.dataset.info import DatasetInfo
from gan_lib.recipes.protocol import Batch, Progress, Recipe
from gan_lib.training.checkpoint import Checkpoints, patiently, starting_weights
from gan_lib.training.data_source import CollatedDataSource, Datasets, DataSource, open_data_source, to_device
from gan_lib.training.data_version import told_by_rank0, versions_of
from gan_lib.training.distributed.group import Group
from gan_lib.training.distributed.precision import Choice, Format, choose
from gan_lib.training.early_stopping import EarlyStopping
from gan_lib.training.engine import Engine
from gan_lib.training.exports import export
from gan_lib.training.samples import log_samples
from gan_lib.training.settings import TrainingSettings, TrainSettings
from gan_lib.training.time_budget import TimeBudget
from gan_lib.training.tracker import SilentTracker, Tracker
from gan_lib.training.validation import HeldOut, measure, read_held_out

_CPU = torch.device("cpu")
_SILENT = SilentTracker()


def train(
    settings: TrainSettings,
    rank: int = 0,
    world_size: int = 1,
    device: torch.device = _CPU,
    tracker: Tracker = _SILENT,
    recipe: Recipe | Callable[[DatasetInfo], Recipe] | None = None,
    data_source: DataSource | None = None,
) -> dict[str, float]:
    """Train on this rank until the configured images, the time budget or early stopping; every rank calls this alike.

    With ``world_size`` > 1 the caller has initialised torch.distributed. Rank 0 alone writes: checkpoints to
    ``settings.checkpoint.folder``, and at the end the averaged artifacts below it, each in ``export/NAME/``.

    Args:
        recipe: takes the place of ``settings.recipe``: a recipe, or what builds one for such data.
        data_source: takes the place of ``settings.data``'s rows to learn from; its batches are on the host.

    Returns:
        ``images`` and ``step`` reached, ``seconds`` and ``images_per_second`` of this run, ``seconds_to_first_step``
        from this call to that step's end (where there was one), and the last of each metric.

    Raises:
        TrainingDiverged: an update was skipped more often than ``training.bad_steps`` allows.
        UserError: the settings do not fit the data, the recipe, the checkpoint or the number of ranks.
    """
    entered = time.monotonic()
    group = Group(rank, world_size)
    _rows_of_a_rank(settings.training.batch_size, group)
    set_up_torch(settings.training, device)
    settings = told_by_rank0(settings, group, device)
    data = settings.data
    datasets = Datasets.open(data, data.split) if data is not None and data_source is None else None
    seed_torch(settings.training.seed, "weights")
    recipe = _built(settings, recipe, datasets or data_source)
    engine = Engine(recipe, settings.training, group, device)
    held_out = _read_held_out(settings, recipe, group)
    if data_source is not None:
        source: DataSource = CollatedDataSource(data_source, recipe.collate, device)
    elif data is not None and datasets is not None:
        source = open_data_source(datasets, data, settings.training, recipe, group, device)
    else:
        raise UserError("There is nothing to learn from: name a dataset as data.url, or hand over a data source.")
    try:
        training = Training(settings, engine, source, held_out, tracker, entered)
        training.restore()
        return training.run()
    finally:
        source.close()


def set_up_torch(settings: TrainingSettings, device: torch.device) -> None:
    """What is set for the whole process: threads, freed memory, and how CUDA chooses its algorithms."""
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    if device.type == "cpu":
        keep_freed_memory()
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark = not settings.deterministic
        torch.set_float32_matmul_precision("high")
    deterministic = settings.deterministic and device.type == "cuda"
    if torch.are_deterministic_algorithms_enabled() != deterministic:  # to set it imports a compiler, which takes 1.5 s
        torch.use_deterministic_algorithms(deterministic)


def _built(
    settings: TrainSettings,
    given: Recipe | Callable[[DatasetInfo], Recipe] | None,
    rows: Datasets | DataSource | None,
) -> Recipe:
    """The recipe: as it was handed over, or as it is built for the data that ``rows`` knows of."""
    if given is not None and not callable(given):
        return given
    if rows is None:
        raise UserError("There is nothing to learn from: name a dataset as data.url, or hand over a data source.")
    if given is not None:
        return given(rows.info())
    if settings.recipe is None:
        raise UserError("There is no recipe: name one as recipe.name, or hand one over.")
    return settings.recipe.build(rows.info())


def _read_held_out(settings: TrainSettings, recipe: Recipe, group: Group) -> HeldOut | None:
    """The held-out rows; None where no split of them is configured."""
    data = settings.data
    if data is None or data.validation_split is None:
        return None
    datasets = Datasets.open(data, data.validation_split)
    return read_held_out(datasets, data.validation_images, settings.report.samples_shown, recipe, group)


def _rows_of_a_rank(batch_size: int, group: Group) -> int:
    if batch_size % group.size:
        raise UserError(f"A batch of {batch_size} rows cannot be shared by {group.size} ranks: take a multiple.")
    return batch_size // group.size


class Training:
    """The loop around the engine: step, report, show, measure, save, stop."""

    def __init__(
        self,
        settings: TrainSettings,
        engine: Engine,
        data_source: DataSource,
        held_out: HeldOut | None,
        tracker: Tracker,
        entered: float,
    ) -> None:
        """``entered``: when, by the monotonic clock, somebody began to wait for the first step."""
        self._settings, self._engine, self._data_source, self._tracker = settings, engine, data_source, tracker
        self._held_out = held_out
        self._checkpoints = Checkpoints(settings.checkpoint.folder, settings.checkpoint.keep)
        self._early_stopping = EarlyStopping(settings.checkpoint)
        self._saved_at: int | None = None
        self._metrics: dict[str, float] = {}
        self._precision: Choice | None = None
        self._entered = entered
        self._start: dict[str, float] = {}

    def restore(self) -> None:
        """Go on from the newest checkpoint that is whole; else begin from another training's weights, if one is named.

        Raises:
            UserError: there is one that cannot be had now, or it is of another training.
        """
        engine, init_from = self._engine, self._settings.training.init_from
        newest = None
        if engine.group.rank == 0:
            self._checkpoints.sweep()
            newest = patiently(self._checkpoints.newest, self._checkpoints.folder)
        images = int(engine.group.broadcast_from_rank0(-1 if newest is None else newest[0], engine.device))
        began_in: Format | None = None
        if images >= 0:
            state = newest[1] if newest is not None else self._state_after(images)
            self._load(state, images)
            began_in = state.get("precision")
        elif init_from is not None:
            engine.init_from(starting_weights(init_from), source=str(init_from))
        self._choose_precision(began_in)

    def _choose_precision(self, began_in: Format | None) -> None:
        """Let all ranks compute in one number format, and write down which; rank 0 says so."""
        engine = self._engine
        self._precision = choose(self._settings.training.precision, began_in, engine.group, engine.device)
        engine.dtype = dtype_of(self._precision.format, engine.device)
        if engine.group.rank == 0:
            self._precision.tell()
            self._tracker.log_tags({"gan_lib.precision": self._precision.format})

    def run(self) -> dict[str, float]:
        """Train to the end and export; returns the numbers that :func:`train` describes."""
        engine, spans = self._engine, self._settings.report
        first = engine.progress.images
        budget = TimeBudget(self._settings.training.stop_after, engine.group, engine.device)
        with self._progress_line() as bar:
            for rows in self._batches():
                before = engine.progress
                engine.step(rows)
                self._start.setdefault("seconds_to_first_step", time.monotonic() - self._entered)
                bar.update(engine.progress.images - before.images)
                if _crossed(spans.samples, before, engine.progress):
                    self._show(rows)
                if _crossed(self._settings.checkpoint.every, before, engine.progress):
                    self._save()
                    if self._should_stop():
                        break
                if _crossed(spans.metrics, before, engine.progress):
                    self._report(engine.progress.images - first, budget.spent)
                    bar.total = self._images_in_time(first, budget.spent)
                if budget.is_spent():
                    break
        self._save()
        self._export()
        return {**self._start, **self._report(engine.progress.images - first, budget.spent)}

    def _batches(self) -> Iterator[Batch]:
        """Batches as large as the recipe asks for, until the training is done; none where it had stopped early."""
        batches, configured = self._data_source.forever(), self._settings.training.batch_size
        rows, stopped = configured, self._should_stop()
        while self._engine.progress.images < self._settings.training.images and not stopped:
            wanted = self._engine.recipe.batch_size(self._engine.progress, configured)
            if wanted != rows:
                self._data_source.set_batch_size(_rows_of_a_rank(wanted, self._engine.group))
                rows = wanted
            yield next(batches)

    def _progress_line(self) -> AbstractContextManager[tqdm]:
        """A line on rank 0: images done, images a second, and how long it will still take."""
        left = max(0, self._settings.training.images - self._engine.progress.images)
        if self._engine.group.rank == 0:
            recipe, precision = self._settings.recipe, self._precision
            named = "train" if recipe is None else f"train {recipe.name}"
            return progress_bar(left, "images", named if precision is None else f"{named} in {precision.format}")
        return tqdm(disable=True)

    def _images_in_time(self, first: int, seconds: float) -> int:
        """How many images this run, begun at ``first``, will see: as planned, or as its time allows at this pace."""
        planned, done = self._settings.training.images - first, self._engine.progress.images - first
        budget = self._settings.training.stop_after
        return planned if budget is None else min(planned, max(done, round(done * budget / seconds)))

    def _report(self, images: int, seconds: float) -> dict[str, float]:
        """Log the means since the last report; ``images`` and ``seconds`` are those of this run."""
        engine = self._engine
        self._metrics |= engine.meter.read(engine.group)
        engine.meter.check(self._settings.training.bad_steps, engine.progress.images)
        speed = {"images_per_second": images / seconds, "seconds": seconds}
        values = {**self._metrics, **speed, "images": engine.progress.images, "step": engine.progress.step}
        if engine.group.rank == 0:
            self._tracker.log_metrics(values, engine.progress.images)
        return values

    def _show(self, rows: Batch) -> None:
        """Log samples that the averaged nets make of held-out rows, or else of ``rows``; rank 0 alone."""
        engine = self._engine
        if engine.group.rank > 0:
            return
        source = rows if self._held_out is None else to_device(self._held_out.first, engine.device)
        some = {name: values[: self._settings.report.samples_shown] for name, values in source.items()}
        with engine.averaged():
            samples = engine.recipe.samples(some)
        if samples is not None:
            log_samples(samples, self._tracker, "samples", engine.progress.images)

    def _save(self) -> None:
        """Measure, then write a checkpoint. All ranks measure and gather; rank 0 writes."""
        engine = self._engine
        if self._saved_at == engine.progress.images:
            return
        engine.meter.check(self._settings.training.bad_steps, engine.progress.images)
        self._metrics["rank_drift"] = engine.group.max_divergence(engine.recipe.nets.parameters())
        self._early_stopping.is_best(self._measure(), engine.progress.images)
        state = {
            **engine.state_dict(),
            "data_source": self._data_source.state_dict(),
            "early_stopping": self._early_stopping.state_dict(),
            "data": {} if self._settings.data is None else versions_of(self._settings.data),
            "precision": None if self._precision is None else self._precision.began_in,
        }
        if engine.group.rank == 0:
            self._checkpoints.save(state, engine.progress.images, self._early_stopping.best_images)
        self._saved_at = engine.progress.images

    def _state_after(self, images: int) -> dict[str, Any]:
        return patiently(partial(self._checkpoints.state_after, images), self._checkpoints.folder)

    def _load(self, state: dict[str, Any], images: int) -> None:
        try:
            self._engine.load_state_dict(state)
            self._data_source.load_state_dict(state["data_source"])
            self._early_stopping.load_state_dict(state["early_stopping"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise UserError(
                f"The checkpoint in {self._checkpoints.folder} is of another training ({error}); name another "
                f"checkpoint.folder, or the recipe that it was made with."
            ) from error
        self._saved_at = images

    def _measure(self) -> dict[str, float]:
        """The recipe's metrics over the held-out rows, of the averaged nets; none where there are no such rows."""
        if self._held_out is None:
            return {}
        engine = self._engine
        with engine.averaged():
            found = measure(engine.recipe, self._held_out, engine.group, engine.device)
        self._metrics |= found
        return found

    def _should_stop(self) -> bool:
        return bool(self._engine.group.broadcast_from_rank0(self._early_stopping.should_stop, self._engine.device))

    def _export(self) -> None:
        """Write the averaged artifacts, of the best checkpoint where one is chosen; rank 0 alone."""
        if self._engine.group.rank > 0:
            return
        best_images = self._early_stopping.best_images
        if best_images is not None:
            best = self._checkpoints.state_after(best_images)
            self._engine.recipe.nets.load_state_dict(best["nets"])  # some artifact may hold a net without an average
            self._engine.averages.load_state_dict(best["averages"])
        export(self._engine, storage.join(self._checkpoints.folder, "export"))


def _crossed(span: int, before: Progress, after: Progress) -> bool:
    return after.images // span > before.images // span
