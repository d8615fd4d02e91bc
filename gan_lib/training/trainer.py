"""A whole training on one rank, from an empty folder or from wherever the last one was killed."""

from __future__ import annotations

import torch

from gan_lib.training.report import Tracker
from gan_lib.training.settings import TrainSettings


def train(
    settings: TrainSettings, rank: int, world_size: int, device: torch.device, tracker: Tracker
) -> dict[str, float]:
    """Train on this rank until the configured images, the time budget or early stopping; every rank calls this alike.

    With ``world_size`` > 1 the caller has initialised torch.distributed. Rank 0 alone writes: checkpoints to
    ``settings.checkpoint.folder``, and at the end the averaged generator below it, in ``export/``.

    Returns:
        ``images``, ``step``, ``seconds`` and ``images_a_second`` of this run, and the last of each metric.

    Raises:
        TrainingDiverged: a phase had more gradients that are not finite than ``training.bad_steps`` allows.
        UserError: the settings do not fit the data, the checkpoint or the number of ranks.
    """
    raise NotImplementedError
