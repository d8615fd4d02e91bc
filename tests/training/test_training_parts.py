"""The parts of the trainer by themselves: averages, gradients, schedules, meters, checkpoints, early stopping."""

from __future__ import annotations

import math
import pickle

import pytest
import torch
from torch import nn

from gan_lib.core.errors import UserError
from gan_lib.recipes.protocol import Average, Progress, Update
from gan_lib.training.checkpoint import Checkpoints, averaged_weights, read
from gan_lib.training.distributed.group import Group
from gan_lib.training.early_stopping import EarlyStopping
from gan_lib.training.meter import Meter, TrainingDiverged
from gan_lib.training.optimization.ema import Averages
from gan_lib.training.optimization.gradients import FlatGradient, clip_and_check, flat_gradients
from gan_lib.training.optimization.schedules import Constant, Cosine, Halving, Linear, Steps
from gan_lib.training.settings import CheckpointSettings
from gan_lib.training.time_budget import TimeBudget


def one_weight(value: float) -> nn.ModuleDict:
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, value)
    return nn.ModuleDict({"net": net})


def test_half_of_the_average_is_new_after_a_half_life():
    nets = one_weight(0.0)
    averages = Averages(nets, {"net": Average()}, half_life=100)
    nn.init.constant_(nets["net"].weight, 1.0)
    for step in range(10):
        averages.update(images=1_000_000 + 10 * step, batch=10)
    assert averages.state_dict()["net.weight"].item() == pytest.approx(0.5)


def test_at_the_beginning_the_average_forgets_its_first_weights_sooner():
    nets = one_weight(0.0)
    averages = Averages(nets, {"net": Average()}, half_life=1e9)
    nn.init.constant_(nets["net"].weight, 1.0)
    for images in range(10, 1010, 10):
        averages.update(images, batch=10)
    assert averages.state_dict()["net.weight"].item() > 0.99


def test_averages_cover_the_statistics_of_a_batch_norm():
    nets = nn.ModuleDict({"net": nn.BatchNorm1d(2)})
    averages = Averages(nets, {"net": Average()}, half_life=0)
    nets["net"](torch.tensor([[1.0, 5.0], [3.0, 9.0]]))
    averages.update(images=2, batch=2)
    torch.testing.assert_close(averages.state_dict()["net.running_mean"], torch.tensor([0.2, 0.7]))
    assert averages.state_dict()["net.num_batches_tracked"] == 1


def test_nets_get_their_own_weights_back_to_the_bit_even_after_an_error():
    nets = one_weight(0.1)
    averages = Averages(nets, {"net": Average()}, half_life=100)
    nn.init.constant_(nets["net"].weight, 0.3)
    before = nets["net"].weight.detach().clone()
    with pytest.raises(RuntimeError), averages.in_place():
        assert nets["net"].weight.item() == pytest.approx(0.1)
        raise RuntimeError
    assert torch.equal(nets["net"].weight, before)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("bucket_bytes", [1, 200, 10**9])
def test_a_flat_gradient_holds_what_autograd_computes(layout, bucket_bytes):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3)).to(memory_format=layout)
    x = torch.randn(2, 3, 8, 8)
    expected = torch.autograd.grad(net(x).square().sum(), list(net.parameters()))
    gradient = FlatGradient(list(net.parameters()), bucket_bytes)
    net(x).square().sum().backward()
    for parameter, wanted in zip(net.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, wanted)
    assert gradient.flat.abs().sum() == pytest.approx(sum(g.abs().sum().item() for g in expected), rel=1e-5)


def test_clipping_scales_all_gradients_of_an_update_to_one_norm():
    first, second = torch.tensor([3.0]), torch.tensor([4.0], dtype=torch.float64)
    norm, bad = clip_and_check([first, second], clip_norm=1.0)
    assert (norm.item(), bad.item()) == (5.0, 0.0)
    torch.testing.assert_close(torch.cat([first, second]).float(), torch.tensor([0.6, 0.8]))


def test_a_small_gradient_is_not_clipped():
    gradient = torch.tensor([0.3, 0.4])
    clip_and_check([gradient], clip_norm=1.0)
    torch.testing.assert_close(gradient, torch.tensor([0.3, 0.4]))


@pytest.mark.parametrize("bad_value", [math.nan, math.inf])
def test_one_gradient_that_is_not_finite_makes_its_update_bad(bad_value):
    _, bad = clip_and_check([torch.tensor([1.0]), torch.tensor([bad_value])], clip_norm=None)
    assert bad.item() == 1.0


def test_no_gradients_have_no_norm_and_are_not_bad():
    assert [value.item() for value in clip_and_check([], clip_norm=1.0)] == [0.0, 0.0]


def test_parameters_of_one_type_lie_in_one_flat_gradient():
    parameters = [nn.Parameter(torch.zeros(n, dtype=d)) for n, d in ((2, torch.float32), (3, torch.float64))]
    assert [len(gradient.flat) for gradient in flat_gradients([*parameters, nn.Parameter(torch.zeros(4))])] == [6, 3]
    assert flat_gradients([]) == []


def test_schedules_meet_their_ends():
    assert Constant().factor(99, 100) == 1
    cosine = Cosine(kind="cosine", warm_up=10, final=0.1)
    assert [cosine.factor(n, 110) for n in (0, 5, 10)] == [0, 0.5, 1]
    assert cosine.factor(60, 110) == pytest.approx(0.55)
    assert cosine.factor(110, 110) == pytest.approx(0.1)
    linear = Linear(kind="linear", start=0.5)
    assert [linear.factor(n, 100) for n in (0, 50, 75, 100)] == [1, 1, 0.5, 0]
    halving = Halving(kind="halving", every=10)
    assert [halving.factor(n, 100) for n in (0, 9, 10, 29)] == [1, 1, 0.5, 0.25]
    steps = Steps(kind="steps", after=(10, 40), drop=0.25)
    assert [steps.factor(n, 100) for n in (0, 9, 10, 39, 40, 99)] == [1, 1, 0.25, 0.25, 0.0625, 0.0625]


def test_an_update_runs_in_every_nth_step_while_its_condition_holds():
    update = Update(
        "late", (), lambda batch, progress: (torch.zeros(()), {}), every=3, when=lambda progress: progress.images >= 8
    )
    steps = [step for step in range(10) if update.is_scheduled(Progress(images=2 * step, step=step))]
    assert steps == [6, 9]


def test_a_meter_gives_means_since_the_last_reading():
    meter = Meter()
    meter.add("d", {"loss": torch.tensor(1.0)})
    meter.add("d", {"loss": torch.tensor(3.0)})
    assert meter.read(Group()) == {"d/loss": 2.0}
    meter.add("d", {"loss": torch.tensor(7.0)})
    assert meter.read(Group()) == {"d/loss": 7.0}
    assert meter.read(Group()) == {}


def test_a_meter_tells_which_update_went_bad():
    meter = Meter()
    for _ in range(3):
        meter.add("critic", {}, bad=torch.tensor(1.0))
        meter.add("generator", {}, bad=torch.tensor(0.0))
    meter.check(allowed=3, images=10)
    with pytest.raises(TrainingDiverged, match=r"'critic' was not finite 3 times by image 10"):
        meter.check(allowed=2, images=10)


def test_a_hostile_checkpoint_runs_no_code(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    (tmp_path / "images-000000000001.pt").write_bytes(pickle.dumps({"nets": Hostile()}))
    with pytest.raises(UserError, match="cannot be read as a checkpoint"):
        read(str(tmp_path / "images-000000000001.pt"))
    assert not (tmp_path / "owned").exists()


def test_there_is_a_sentence_for_a_start_from_nothing(tmp_path):
    with pytest.raises(UserError, match="There is no checkpoint"):
        averaged_weights(str(tmp_path / "missing"))
    with pytest.raises(UserError, match="train there first"):
        averaged_weights(str(tmp_path))


def test_the_best_checkpoint_outlives_the_newest(tmp_path):
    kept = Checkpoints(str(tmp_path), keep=1)
    for images, best in ((1, None), (2, 2), (3, 2), (4, 2)):
        told = {"early_stopping": {"best_images": best}}
        kept.save({"nets": {}, "averages": {"n": torch.tensor(images)}, **told}, images, best)
    assert kept.images() == [2, 4]
    assert averaged_weights(str(tmp_path))["n"] == 2


class Stopwatch:
    """Seconds that pass as a test says."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


class CountingGroup(Group):
    """One rank that counts how often ranks would have to agree."""

    asked = 0

    def broadcast_from_rank0(self, value: float, device: torch.device) -> float:
        CountingGroup.asked += 1
        return value


def steps_within(seconds: float | None, pace: list[float]) -> int:
    """How many steps a budget of ``seconds`` allows, each taking the next number of ``pace``."""
    watch = Stopwatch()
    CountingGroup.asked = 0
    budget = TimeBudget(seconds, CountingGroup(), torch.device("cpu"), watch)
    for steps, taken in enumerate(pace, start=1):
        watch.time += taken
        if budget.is_spent():
            return steps
    return len(pace)


def test_a_time_budget_ends_after_the_step_that_spends_it_and_seldom_asks():
    assert steps_within(100.0, [0.25] * 1_000) == 400
    assert CountingGroup.asked < 40


def test_a_time_budget_is_kept_when_the_first_step_is_slow():
    assert steps_within(60.0, [30.0] + [0.5] * 1_000) == 61


def test_a_time_budget_notices_a_machine_that_slows_down():
    assert steps_within(100.0, [0.125] * 400 + [0.5] * 1_000) == 400 + 100


def test_without_a_time_budget_nobody_is_asked():
    assert steps_within(None, [1.0] * 50) == 50
    assert CountingGroup.asked == 0


def early_stopping(best_is: str = "highest", patience: int = 2) -> EarlyStopping:
    return EarlyStopping(CheckpointSettings(folder="x", best="psnr", best_is=best_is, patience=patience))


def test_a_training_should_stop_after_as_many_misses_as_its_patience():
    stopping = early_stopping()
    found = [stopping.is_best({"validation/psnr": value}, 1) for value in (1.0, 2.0, 1.5, 2.0)]
    assert found == [True, True, False, False]
    assert stopping.should_stop
    later = early_stopping()
    later.load_state_dict(stopping.state_dict())
    assert later.should_stop and not later.is_best({"validation/psnr": 1.9}, 1)


@pytest.mark.parametrize("best_is", ["highest", "lowest"])
def test_a_metric_that_is_no_number_is_never_the_best(best_is):
    stopping = early_stopping(best_is, patience=3)
    values = (math.nan, 1.0, math.nan)
    assert [stopping.is_best({"validation/psnr": value}, 1) for value in values] == [False, True, False]
    assert stopping.best_images is not None and not stopping.should_stop


def test_a_training_whose_metric_is_never_a_number_stops_without_a_best():
    stopping = early_stopping(patience=2)
    assert not stopping.is_best({"validation/psnr": math.nan}, 1) and not stopping.should_stop
    assert not stopping.is_best({"validation/psnr": math.nan}, 1) and stopping.should_stop
    assert stopping.best_images is None


def test_a_metric_that_the_recipe_does_not_have_is_named():
    stopping = EarlyStopping(CheckpointSettings(folder="x", best="fid"))
    with pytest.raises(UserError, match=r"checkpoint\.best = fid .* which has: psnr"):
        stopping.is_best({"validation/psnr": 1.0}, 1)
