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
from gan_lib.core.progress_bar import progress
from gan_lib.core.random import seed_torch
from gan_lib.recipes.protocol import Batch, Clock
from gan_lib.training.checkpoint import Checkpoints, averaged_weights
from gan_lib.training.data_source import Feed, open_feed, read_validation_rows
from gan_lib.training.distributed.group import Group
from gan_lib.training.early_stopping import Judge
from gan_lib.training.engine import Engine
from gan_lib.training.export_nets import export
from gan_lib.training.settings import TrainingSettings, TrainSettings
from gan_lib.training.time_budget import TimeBudget
from gan_lib.training.tracker import Tracker, picture_grid

_MEASURED_AT_ONCE = 16  # held-out rows in one pass: small enough for any memory that trains


def train(
    settings: TrainSettings, rank: int, world_size: int, device: torch.device, tracker: Tracker
) -> dict[str, float]:
    """Train on this rank until the configured images, the time budget or early stopping; every rank calls this alike.

    With ``world_size`` > 1 the caller has initialised torch.distributed. Rank 0 alone writes: checkpoints to
    ``settings.checkpoint.folder``, and at the end the averaged generator below it, in ``export/``.

    Returns:
        ``images`` and ``step`` reached, ``seconds`` and ``images_a_second`` of this run, ``seconds_to_first_step`` from
        this call to that step's end (where there was one), and the last of each metric.

    Raises:
        TrainingDiverged: a phase had more gradients that are not finite than ``training.bad_steps`` allows.
        UserError: the settings do not fit the data, the checkpoint or the number of ranks.
    """
    entered = time.monotonic()
    group = Group(rank, world_size)
    set_up_torch(settings.training, device)
    seed_torch(settings.training.seed, "weights")
    engine = Engine(settings.build_recipe(), settings.training, group, device)
    feed = open_feed(settings.data, settings.training, group, device)
    try:
        held_out = read_validation_rows(settings.data, device)
        training = Training(settings, engine, feed, held_out, tracker, entered)
        training.restore()
        return training.run()
    finally:
        feed.close()


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
        feed: Feed,
        held_out: Batch | None,
        tracker: Tracker,
        entered: float,
    ) -> None:
        """``entered``: when, by the monotonic clock, somebody began to wait for the first step."""
        self._settings, self._engine, self._feed, self._tracker = settings, engine, feed, tracker
        self._held_out = held_out
        self._checkpoints = Checkpoints(settings.checkpoint.folder, settings.checkpoint.keep)
        self._judge = Judge(settings.checkpoint)
        self._saved_at: int | None = None
        self._metrics: dict[str, float] = {}
        self._entered = entered
        self._start: dict[str, float] = {}

    def restore(self) -> None:
        """Go on from the newest checkpoint; else begin from another training's weights, if one is named."""
        engine, start_from = self._engine, self._settings.training.start_from
        newest = self._checkpoints.newest_readable() if engine.group.rank == 0 else None
        images = int(engine.group.rank_0_says(-1 if newest is None else newest, engine.device))
        if images >= 0:
            self._load(images)
        elif start_from is not None:
            engine.start_from(averaged_weights(start_from), source=start_from)

    def run(self) -> dict[str, float]:
        """Train to the end and export; returns the numbers that :func:`train` describes."""
        engine, spans = self._engine, self._settings.report
        first, budget = engine.clock.images, TimeBudget(self._settings.training.stop_after, engine.group, engine.device)
        with self._progress() as bar:
            for rows in self._batches():
                before = engine.clock
                engine.step(rows)
                self._start.setdefault("seconds_to_first_step", time.monotonic() - self._entered)
                bar.update(engine.clock.images - before.images)
                if _crossed(spans.samples, before, engine.clock):
                    self._show(rows)
                if _crossed(self._settings.checkpoint.every, before, engine.clock):
                    self._save()
                    if self._hopeless():
                        break
                if _crossed(spans.metrics, before, engine.clock):
                    self._report(engine.clock.images - first, budget.spent)
                    bar.total = self._images_in_time(first, budget.spent)
                if budget.is_spent():
                    break
        self._save()
        self._export()
        return {**self._start, **self._report(engine.clock.images - first, budget.spent)}

    def _batches(self) -> Iterator[Batch]:
        feed = self._feed.forever()
        while self._engine.clock.images < self._settings.training.images:
            yield next(feed)

    def _progress(self) -> AbstractContextManager[tqdm]:
        """A line on rank 0: images done, images a second, and how long it will still take."""
        left = max(0, self._settings.training.images - self._engine.clock.images)
        if self._engine.group.rank == 0:
            return progress(left, "images", f"train {self._settings.recipe['name']}")
        return tqdm(disable=True)

    def _images_in_time(self, first: int, seconds: float) -> int:
        """How many images this run, begun at ``first``, will see: as planned, or as its time allows at this pace."""
        planned, done = self._settings.training.images - first, self._engine.clock.images - first
        budget = self._settings.training.stop_after
        return planned if budget is None else min(planned, max(done, round(done * budget / seconds)))

    def _report(self, images: int, seconds: float) -> dict[str, float]:
        """Log the means since the last report; ``images`` and ``seconds`` are those of this run."""
        engine = self._engine
        self._metrics |= engine.meter.read(engine.group)
        engine.meter.check(self._settings.training.bad_steps, engine.clock.images)
        speed = {"images_a_second": images / seconds, "seconds": seconds}
        values = {**self._metrics, **speed, "images": engine.clock.images, "step": engine.clock.step}
        if engine.group.rank == 0:
            self._tracker.log_metrics(values, engine.clock.images)
        return values

    def _show(self, rows: Batch) -> None:
        """Log a grid of sample pictures made by the averaged nets; rank 0 alone."""
        if self._engine.group.rank > 0:
            return
        source = rows if self._held_out is None else self._held_out
        some = {name: values[: self._settings.report.samples_shown] for name, values in source.items()}
        with self._engine.averaged():
            pictures = self._engine.recipe.samples(some)
        if pictures is not None:
            self._tracker.log_image("samples", picture_grid(pictures), self._engine.clock.images)

    def _save(self) -> None:
        """Measure, then write a checkpoint. All ranks come here; rank 0 measures and writes."""
        engine = self._engine
        if self._saved_at == engine.clock.images:
            return
        engine.meter.check(self._settings.training.bad_steps, engine.clock.images)
        self._metrics["rank_drift"] = engine.group.spread(engine.recipe.nets.parameters())
        is_best = self._judge.is_best(self._measure()) if engine.group.rank == 0 else False
        state = {
            **engine.state_dict(),
            "feed": self._feed.state_dict(),
            "judge": self._judge.state_dict(),
        }
        if engine.group.rank == 0:
            self._checkpoints.save(state, engine.clock.images, is_best)
        self._saved_at = engine.clock.images

    def _load(self, images: int) -> None:
        state = self._checkpoints.load(images)
        try:
            self._engine.load_state_dict(state)
            self._feed.load_state_dict(state["feed"])
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

    def _hopeless(self) -> bool:
        return bool(self._engine.group.rank_0_says(self._judge.gives_up, self._engine.device))

    def _export(self) -> None:
        """Write the averaged generator, of the best checkpoint where one is judged; rank 0 alone."""
        if self._engine.group.rank > 0:
            return
        if self._judge.has_best:
            self._engine.averages.load_state_dict(self._checkpoints.load_best()["averages"])
        with self._engine.averaged():
            export(self._engine.recipe, storage.join(self._checkpoints.folder, "export"))


def _crossed(span: int, before: Clock, after: Clock) -> bool:
    return after.images // span > before.images // span


def _in_batches(rows: Batch) -> Iterator[Batch]:
    count = len(next(iter(rows.values())))
    for start in range(0, count, _MEASURED_AT_ONCE):
        yield {name: values[start : start + _MEASURED_AT_ONCE] for name, values in rows.items()}
