"""Weights that others published as a state dict, such as those of a classifier whose features are compared."""

from __future__ import annotations

import io

import torch
from torch import Tensor

from gan_lib.core import storage
from gan_lib.core.errors import UserError


def read_state_dict(url: str) -> dict[str, Tensor]:
    """The tensors by name in the file at ``url``, on the CPU; nothing in the file is executed.

    Raises:
        UserError: there is no such file, or it holds no state dict.
    """
    try:
        content = storage.read_bytes(url)
    except FileNotFoundError:
        raise UserError(f"There is no file {url} to read weights from.") from None
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds on what is no state dict
        raise UserError(f"{url} holds no weights that torch can read: {error}.") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{url} holds no state dict, which maps names to tensors, but another object.")
    return state
