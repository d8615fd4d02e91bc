"""The version of the data that a training reads: decided once, before it starts, and kept to its end.

Preprocessing may publish a newer version at any moment. A training goes on with the one that it began with, which its
checkpoints name; ranks are told a number and never open "the newest".
"""

from __future__ import annotations

import logging
from typing import TypeVar

import torch

from gan_lib.core.errors import UserError
from gan_lib.dataset.manifest import published_versions
from gan_lib.training.checkpoint import Checkpoints, patiently
from gan_lib.training.distributed.group import Group
from gan_lib.training.settings import DataSettings, TrainSettings

logger = logging.getLogger(__name__)
Settings = TypeVar("Settings", bound=TrainSettings)


def with_data_version(settings: Settings) -> Settings:
    """``settings`` whose ``data`` names the version of each dataset: the one of the training that goes on in
    ``checkpoint.folder``, else the configured one, else the newest.

    None stays where the URL itself names a version, or a folder that has none.

    Raises:
        UserError: another version is configured than the training began with, or its checkpoints cannot be read now.
    """
    data, folder = settings.data, settings.checkpoint.folder
    if data is None:
        return settings
    checkpoints = Checkpoints(folder, settings.checkpoint.keep)
    began_with = patiently(checkpoints.began_with, folder)
    chosen = {"version": _chosen(data.url, "version", data.version, began_with, folder)}
    if data.domain_b is not None:
        key = "domain_b_version"
        chosen[key] = _chosen(data.domain_b, key, data.domain_b_version, began_with, folder)
    return settings.model_copy(update={"data": data.model_copy(update=chosen)})


def told_by_rank0(settings: TrainSettings, group: Group, device: torch.device) -> TrainSettings:
    """:func:`with_data_version` of rank 0, on every rank: each asks for the same versions, whatever is newest then."""
    if settings.data is None:
        return settings
    data = with_data_version(settings).data if group.rank == 0 else settings.data
    assert data is not None
    told: dict[str, int | None] = {}
    for key, version in versions_of(data).items():
        number = int(group.broadcast_from_rank0(-1 if version is None else version, device))
        told[key] = None if number < 0 else number
    return settings.model_copy(update={"data": data.model_copy(update=told)})


def versions_of(data: DataSettings) -> dict[str, int | None]:
    """The versions that ``data`` names, by key: what a checkpoint keeps of them."""
    return {"version": data.version, "domain_b_version": data.domain_b_version}


def _chosen(url: str, key: str, wanted: int | None, began_with: dict[str, int | None], folder: str) -> int | None:
    begun = began_with.get(key)
    if begun is None:
        return wanted if wanted is not None else max(published_versions(url), default=None)
    if wanted is None:
        newest = max(published_versions(url), default=begun)
        if newest > begun:
            logger.warning(
                "%s has version %s now; the training in %s goes on with version %s, which it began with.",
                *(url, newest, folder, begun),
            )
    elif wanted != begun:
        raise UserError(
            f"data.{key} is {wanted}, and the training in {folder} began with version {begun} of {url}: leave "
            f"data.{key} out, or name another checkpoint.folder for a training on version {wanted}."
        )
    return begun
