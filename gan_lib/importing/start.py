"""Published weights as what a training begins with: a folder that ``training.init_from`` takes."""

from __future__ import annotations

from typing import Any

from torch import nn

from gan_lib.core.errors import UserError
from gan_lib.importing.settings import StartSettings
from gan_lib.training.checkpoint import Checkpoints

_MARK = "imported"


def write_start(net: nn.Module, source: str, settings: StartSettings) -> None:
    """Put the weights of ``net`` into ``settings.folder``, as a checkpoint of an untrained recipe with this net alone.

    A start that is there already keeps its other nets, so that several files become one start. ``source`` says where
    the weights come from.

    Raises:
        UserError: the folder holds the checkpoints of a training.
        StoreUnavailable: it cannot be had now.
    """
    checkpoints = Checkpoints(settings.folder, keep=1)
    found = checkpoints.newest()
    state: dict[str, Any] = {"nets": {}, _MARK: {}} if found is None else found[1]
    if _MARK not in state:
        raise UserError(
            f"start.folder = {settings.folder} holds the checkpoints of a training: name a folder of its own."
        )
    prefix = f"{settings.net}."
    nets = {key: value for key, value in state["nets"].items() if not key.startswith(prefix)}
    nets |= {f"{prefix}{key}": value.detach().clone() for key, value in net.state_dict().items()}
    sources = {**state[_MARK], settings.net: source}
    checkpoints.save({"nets": nets, "averages": {}, _MARK: sources}, images=0)
