"""A whole training on one rank: from an empty folder, or from wherever the last one was killed, to its export."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager

import torch
from tqdm import tqdm

from gan_lib.core import storage
from gan_lib.core.allocator import keep_freed_memory
from gan_lib.core.errors import UserError
from gan_lib.core.progress_bar import progress_bar
from gan_lib.core.random import seed_torch
from gan_lib.recipes.protocol import Batch, Progress
from gan_lib.training.checkpoint import Checkpoints, averaged_weights
from gan_lib.training.data_source import DataSource, open_data_source, read_validation_rows
from gan_lib.training.distributed.group import Group
from gan_lib.training.early_stopping import EarlyStopping
from gan_lib.training.engine import Engine
from gan_lib.training.export_nets import export
from gan_lib.training.settings import TrainingSettings, TrainSettings
from gan_lib.training.time_budget import TimeBudget
from gan_lib.training.tracker import Tracker, image_grid

_MEASURED_AT_ONCE = 16  # held-out rows in one pass: small enough for any memory that trains


def train(
    settings: TrainSettings, rank: int, world_size: int, device: torch.device, tracker: Tracker
) -> dict[str, float]:
    """Train on this rank until the configured images, the time budget or early stopping; every rank calls this alike.

    With ``world_size`` > 1 the caller has initialised torch.distributed. Rank 0 alone writes: checkpoints to
    ``settings.checkpoint.folder``, and at the end the averaged generator below it, in ``export/``.

    Returns:
        ``images`` and ``step`` reached, ``seconds`` and ``images_per_second`` of this run, ``seconds_to_first_step`` from
        this call to that step's end (where there was one), and the last of each metric.

    Raises:
        TrainingDiverged: a update had more gradients that are not finite than ``training.bad_steps`` allows.
        UserError: the settings do not fit the data, the checkpoint or the number of ranks.
    """
    entered = time.monotonic()
    group = Group(rank, world_size)
    set_up_torch(settings.training, device)
    seed_torch(settings.training.seed, "weights")
    engine = Engine(settings.build_recipe(), settings.training, group, device)
    data_source = open_data_source(settings.data, settings.training, group, device)
    try:
        held_out = read_validation_rows(settings.data, device)
        training = Training(settings, engine, data_source, held_out, tracker, entered)
        training.restore()
        return training.run()
    finally:
        data_source.close()


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
    torch.use_deterministic_algorithms(settings.deterministic and device.type == "cuda")


class Training:
    """The loop around the engine: step, report, show, measure, save, stop."""

    def __init__(
        self,
        settings: TrainSettings,
        engine: Engine,
        data_source: DataSource,
        held_out: Batch | None,
        tracker: Tracker,
        entered: float,
    ) -> None:
        """``entered``: when, by the monotonic progress, somebody began to wait for the first step."""
        self._settings, self._engine, self._data_source, self._tracker = settings, engine, data_source, tracker
        self._held_out = held_out
        self._checkpoints = Checkpoints(settings.checkpoint.folder, settings.checkpoint.keep)
        self._judge = EarlyStopping(settings.checkpoint)
        self._saved_at: int | None = None
        self._metrics: dict[str, float] = {}
        self._entered = entered
        self._start: dict[str, float] = {}

    def restore(self) -> None:
        """Go on from the newest checkpoint; else begin from another training's weights, if one is named."""
        engine, init_from = self._engine, self._settings.training.init_from
        newest = self._checkpoints.newest_readable() if engine.group.rank == 0 else None
        images = int(engine.group.broadcast_from_rank0(-1 if newest is None else newest, engine.device))
        if images >= 0:
            self._load(images)
        elif init_from is not None:
            engine.init_from(averaged_weights(init_from), source=init_from)

    def run(self) -> dict[str, float]:
        """Train to the end and export; returns the numbers that :func:`train` describes."""
        engine, spans = self._engine, self._settings.report
        first, budget = (
            engine.progress.images,
            TimeBudget(self._settings.training.stop_after, engine.group, engine.device),
        )
        with self._progress() as bar:
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
        data_source = self._data_source.forever()
        while self._engine.progress.images < self._settings.training.images:
            yield next(data_source)

    def _progress(self) -> AbstractContextManager[tqdm]:
        """A line on rank 0: images done, images a second, and how long it will still take."""
        left = max(0, self._settings.training.images - self._engine.progress.images)
        if self._engine.group.rank == 0:
            return progress_bar(left, "images", f"train {self._settings.recipe['name']}")
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
        """Log a grid of sample images made by the averaged nets; rank 0 alone."""
        if self._engine.group.rank > 0:
            return
        source = rows if self._held_out is None else self._held_out
        some = {name: values[: self._settings.report.samples_shown] for name, values in source.items()}
        with self._engine.averaged():
            images = self._engine.recipe.samples(some)
        if images is not None:
            self._tracker.log_image("samples", image_grid(images), self._engine.progress.images)

    def _save(self) -> None:
        """Measure, then write a checkpoint. All ranks come here; rank 0 measures and writes."""
        engine = self._engine
        if self._saved_at == engine.progress.images:
            return
        engine.meter.check(self._settings.training.bad_steps, engine.progress.images)
        self._metrics["rank_drift"] = engine.group.max_divergence(engine.recipe.nets.parameters())
        is_best = self._judge.is_best(self._measure()) if engine.group.rank == 0 else False
        state = {
            **engine.state_dict(),
            "data_source": self._data_source.state_dict(),
            "judge": self._judge.state_dict(),
        }
        if engine.group.rank == 0:
            self._checkpoints.save(state, engine.progress.images, is_best)
        self._saved_at = engine.progress.images

    def _load(self, images: int) -> None:
        state = self._checkpoints.load(images)
        try:
            self._engine.load_state_dict(state)
            self._data_source.load_state_dict(state["data_source"])
            self._judge.load_state_dict(state["judge"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise UserError(
                f"The checkpoint in {self._checkpoints.folder} is of another training ({error}); name another "
                f"checkpoint.folder, or the recipe that it was made with."
            ) from error
        self._saved_at = images

    def _measure(self) -> dict[str, float]:
        """Means of the recipe's measures over the held-out rows, taken with the averaged nets."""
        if self._held_out is None:
            return {}
        with self._engine.averaged():
            parts = [self._engine.recipe.measure(rows) for rows in _in_batches(self._held_out)]
        means = {f"validation/{name}": float(torch.cat([p[name] for p in parts]).mean()) for name in parts[0]}
        self._metrics |= means
        return means

    def _should_stop(self) -> bool:
        return bool(self._engine.group.broadcast_from_rank0(self._judge.should_stop, self._engine.device))

    def _export(self) -> None:
        """Write the averaged generator, of the best checkpoint where one is judged; rank 0 alone."""
        if self._engine.group.rank > 0:
            return
        if self._judge.has_best:
            self._engine.averages.load_state_dict(self._checkpoints.load_best()["averages"])
        with self._engine.averaged():
            export(self._engine.recipe, storage.join(self._checkpoints.folder, "export"))


def _crossed(span: int, before: Progress, after: Progress) -> bool:
    return after.images // span > before.images // span


def _in_batches(rows: Batch) -> Iterator[Batch]:
    count = len(next(iter(rows.values())))
    for start in range(0, count, _MEASURED_AT_ONCE):
        yield {name: values[start : start + _MEASURED_AT_ONCE] for name, values in rows.items()}
