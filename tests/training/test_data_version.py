"""A training reads one version of its data from its first image to its last, wherever the dataset lies by then."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
import torch
from small_trainings import publish, settings_of
from small_versions import publish_version

from gan_lib.core.errors import UserError
from gan_lib.dataset.schema import DatasetError
from gan_lib.training.checkpoint import Checkpoints
from gan_lib.training.data_version import told_by_rank0, with_data_version
from gan_lib.training.distributed.group import Group
from gan_lib.training.loop import train
from gan_lib.training.settings import TrainSettings

CPU = torch.device("cpu")


def begin_and_go_on(first: TrainSettings, then: TrainSettings) -> dict[str, float]:
    train(first, 0, 1, CPU)
    return train(then, 0, 1, CPU)


def last_state(folder: Path) -> dict[str, torch.Tensor]:
    found = Checkpoints(str(folder), keep=3).newest()
    assert found is not None
    return found[1]["nets"]


def test_a_training_goes_on_with_its_version_when_a_newer_one_was_published(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    url = publish_version(tmp_path / "dataset", 1)
    train(settings_of("srresnet", url, tmp_path / "whole", training={"images": 48}), 0, 1, CPU)
    train(settings_of("srresnet", url, tmp_path / "run"), 0, 1, CPU)
    publish_version(tmp_path / "dataset", 2, "coffee.png")
    with caplog.at_level(logging.WARNING):
        longer = settings_of("srresnet", url, tmp_path / "run", training={"images": 48})
        assert train(longer, 0, 1, CPU)["images"] == 48
    told = [record.getMessage() for record in caplog.records if "goes on with version" in record.getMessage()]
    assert told == [
        f"{url} has version 2 now; the training in {tmp_path / 'run'} goes on with version 1, which it began with."
    ]
    whole, found = last_state(tmp_path / "whole"), last_state(tmp_path / "run")
    assert all(torch.equal(found[key], tensor) for key, tensor in whole.items())


def test_a_new_training_begins_with_the_newest_version_or_the_one_that_is_named(tmp_path: Path):
    url = publish_version(tmp_path / "dataset", 1)
    publish_version(tmp_path / "dataset", 2, "coffee.png")
    assert with_data_version(settings_of("srresnet", url, tmp_path / "a")).data.version == 2
    named = settings_of("srresnet", url, tmp_path / "a", data={"version": 1})
    assert with_data_version(named).data.version == 1


def test_another_version_than_the_training_began_with_is_refused_and_both_are_named(tmp_path: Path):
    url = publish_version(tmp_path / "dataset", 1)
    publish_version(tmp_path / "dataset", 2, "coffee.png")
    train(settings_of("srresnet", url, tmp_path / "run", data={"version": 1}), 0, 1, CPU)
    other = settings_of("srresnet", url, tmp_path / "run", data={"version": 2})
    with pytest.raises(UserError, match=r"data.version is 2, and the training in .* began with version 1 of"):
        train(other, 0, 1, CPU)


def test_the_version_is_known_by_a_checkpoint_whose_writer_was_killed_before_its_record(tmp_path: Path):
    url = publish_version(tmp_path / "dataset", 1)
    settings = settings_of("srresnet", url, tmp_path / "run")
    train(settings, 0, 1, CPU)
    publish_version(tmp_path / "dataset", 2, "coffee.png")
    for record in (tmp_path / "run").glob("images-*.json"):
        record.unlink()
    assert with_data_version(settings).data.version == 1


@pytest.mark.parametrize("has_manifest", [True, False])
def test_a_dataset_that_was_moved_is_the_same_dataset(tmp_path: Path, has_manifest: bool):
    before = tmp_path / "before"
    publish_version(before, 1) if has_manifest else publish(before)
    first = settings_of("srresnet", str(before), tmp_path / "run")
    train(first, 0, 1, CPU)
    shutil.copytree(before, tmp_path / "elsewhere" / "after", copy_function=shutil.copyfile)
    shutil.rmtree(before)
    moved = settings_of("srresnet", str(tmp_path / "elsewhere" / "after"), tmp_path / "run", training={"images": 48})
    assert train(moved, 0, 1, CPU)["images"] == 48


def test_another_dataset_of_the_same_form_is_not_gone_on_with(tmp_path: Path):
    first = settings_of("srresnet", publish(tmp_path / "one"), tmp_path / "run")
    other = settings_of("srresnet", publish(tmp_path / "two", "coffee.png"), tmp_path / "run", training={"images": 48})
    with pytest.raises((UserError, DatasetError), match="another dataset"):
        begin_and_go_on(first, other)


def test_each_of_two_datasets_keeps_a_version_of_its_own(tmp_path: Path):
    own = publish_version(tmp_path / "own", 1)
    other = publish_version(tmp_path / "other", 1)
    publish_version(tmp_path / "other", 2, "coffee.png")
    settings = settings_of("cyclegan", own, tmp_path / "run", data={"domain_b": other})
    train(settings, 0, 1, CPU)
    publish_version(tmp_path / "own", 3, "chelsea.png")
    data = with_data_version(settings).data
    assert (data.version, data.domain_b_version) == (1, 2)


class SecondRank(Group):
    """The second of two ranks, whose first has decided for version 1."""

    def broadcast_from_rank0(self, value: float, device: torch.device) -> float:
        return {True: 1.0, False: -1.0}[self._is_first_question()]

    def _is_first_question(self) -> bool:
        asked = self.__dict__.setdefault("asked", [])
        asked.append(1)
        return len(asked) == 1


def test_a_rank_that_starts_while_a_version_is_published_reads_what_rank_0_reads(tmp_path: Path):
    url = publish_version(tmp_path / "dataset", 1)
    publish_version(tmp_path / "dataset", 2, "coffee.png")
    told = told_by_rank0(settings_of("srresnet", url, tmp_path / "run"), SecondRank(1, 2), CPU)
    assert told.data.version == 1
