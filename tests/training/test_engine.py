"""One step of small recipes: what moves, what does not, and by how much."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from toy_recipes import Number, Toy, Weight, engine_of

from gan_lib.core.errors import UserError
from gan_lib.export.architecture import Architecture
from gan_lib.export.artifact import Artifact
from gan_lib.export.ports import Image, Latent
from gan_lib.nets.dcgan import DCGANGenerator
from gan_lib.recipes.protocol import Average, Batch, Logs, Progress, Update
from gan_lib.training.exports import export, exported

ROWS = {"x": torch.arange(1.0, 5.0)}


def mean_of(net: nn.Module) -> Callable[[Batch, Progress], tuple[torch.Tensor, Logs]]:
    return lambda batch, progress: (net(batch["x"]).mean(), {})


def test_after_one_update_only_its_optimisers_parameters_have_moved():
    nets = {"a": nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 1)), "b": nn.Linear(1, 1), "c": nn.Linear(1, 1)}
    own = [*nets["a"][0].parameters(), *nets["b"].parameters()]  # half of one net, all of another
    optimizers = {"own": SGD(own, lr=0.1), "other": SGD(nets["a"][1].parameters(), lr=0.1)}

    def loss(batch: Batch, progress: Progress) -> tuple[torch.Tensor, Logs]:
        frozen = [*nets["a"][1].parameters(), *nets["c"].parameters()]
        assert all(p.requires_grad for p in own) and not any(p.requires_grad for p in frozen)
        x = batch["x"].view(-1, 1)
        return (nets["a"](x) + nets["b"](x) + nets["c"](x)).mean(), {}

    engine = engine_of(Toy(nets, optimizers, [Update("only", ("own",), loss)]))
    before = {name: tensor.clone() for name, tensor in engine.recipe.nets.named_parameters()}
    engine.step(ROWS)
    moved = {name for name, tensor in engine.recipe.nets.named_parameters() if not torch.equal(tensor, before[name])}
    assert moved == {"a.0.weight", "a.0.bias", "b.weight", "b.bias"}
    assert all(parameter.grad is None for parameter in nets["c"].parameters())


def test_a_trunk_that_two_nets_share_learns_from_both():
    trunk = Weight(1.0)
    nets = {"first": nn.Sequential(trunk, Weight(2.0)), "second": nn.Sequential(trunk, Weight(3.0))}
    parameters = list(nn.ModuleDict(nets).parameters())
    assert len(parameters) == 3
    both = Update("both", ("all",), lambda b, p: ((nets["first"](b["x"]) + nets["second"](b["x"])).mean(), {}))
    engine = engine_of(Toy(nets, {"all": SGD(parameters, lr=0.1)}, [both]))
    engine.step(ROWS)
    assert trunk.value.item() == pytest.approx(1.0 - 0.1 * (2 + 3) * 2.5)


def test_optimisers_that_share_a_parameter_are_both_named():
    net = Weight()
    optimizers = {"early": SGD(net.parameters(), lr=1), "late": SGD(net.parameters(), lr=1)}
    with pytest.raises(UserError, match=r"'early' and 'late' both hold the parameter net\.value"):
        engine_of(Toy({"net": net}, optimizers))


def test_a_parameter_of_no_net_is_refused_because_it_would_not_be_saved():
    with pytest.raises(UserError, match=r"'stray' holds a parameter of shape .* none of the recipe's nets"):
        engine_of(Toy({"net": Weight()}, {"stray": SGD(Weight().parameters(), lr=1)}))


def test_updates_that_do_not_fit_the_optimisers_are_refused():
    net = Weight()
    update = Update("learn", ("absent",), mean_of(net))
    with pytest.raises(UserError, match="'learn' steps the optimizer 'absent', and the recipe's are \\['net'\\]"):
        engine_of(Toy({"net": net}, {"net": SGD(net.parameters(), lr=1)}, [update]))
    with pytest.raises(UserError, match="Two updates of the recipe are called 'learn'"):
        engine_of(Toy({"net": net}, {"absent": SGD(net.parameters(), lr=1)}, [update, update]))


def test_a_net_and_an_optimiser_without_parameters_are_no_obstacle():
    net = Weight()
    empty = SGD([{"params": []}], lr=1)
    updates = [Update("nothing", ("empty",), mean_of(net)), Update("all", ("net", "empty"), mean_of(net))]
    recipe = Toy({"net": net, "none": nn.ReLU()}, {"net": SGD(net.parameters(), lr=1), "empty": empty}, updates)
    engine = engine_of(recipe)
    engine.step(ROWS)
    assert net.value.item() == -2.5
    engine.load_state_dict(copy.deepcopy(engine.state_dict()))


def test_parameters_of_several_types_learn_in_one_optimiser():
    nets = {"in_32_bits": Weight(), "in_64": Weight().double(), "in_16": Weight().bfloat16()}
    update = Update("all", ("all",), lambda b, p: (sum(net(b["x"]).float() for net in nets.values()).mean(), {}))
    engine = engine_of(Toy(nets, {"all": SGD(nn.ModuleDict(nets).parameters(), lr=1)}, [update]), clip_norm=0.5)
    engine.step(ROWS)
    for net in nets.values():
        assert net.value.item() == pytest.approx(-0.5 / math.sqrt(3), rel=1e-2)


OPTIMISERS: dict[str, Callable[[list[nn.Parameter]], Optimizer]] = {
    "fused Adam": lambda p: Adam(p, lr=0.1, fused=True),
    "fused AdamW": lambda p: AdamW(p, lr=0.1, fused=True),
    "fused SGD": lambda p: SGD(p, lr=0.1, momentum=0.9, fused=True),
    "Adam": lambda p: Adam(p, lr=0.1),
    "RMSprop": lambda p: RMSprop(p, lr=0.1, momentum=0.5),
}


@pytest.mark.parametrize("bad_value", [math.nan, math.inf])
@pytest.mark.parametrize("good_steps", [0, 2])
@pytest.mark.parametrize("make", OPTIMISERS.values(), ids=OPTIMISERS.keys())
def test_a_step_that_is_not_finite_leaves_every_bit_as_it_was(make, good_steps, bad_value):
    nets = {"healthy": Weight(1.0), "sick": nn.Sequential(nn.BatchNorm1d(1), nn.Linear(1, 1))}
    state = {"strength": Number(), "policy": nn.Linear(1, 1)}

    def loss(batch: Batch, progress: Progress) -> tuple[torch.Tensor, Logs]:
        sick = nets["sick"](batch["x"].view(-1, 1)).mean()
        return nets["healthy"](batch["mild"]).mean() + sick, {}

    def after(logs: Logs) -> None:
        state["strength"].value.add_(logs["loss"])
        state["policy"].weight.lerp_(nets["sick"][1].weight, 0.5)

    update = Update("both", ("healthy", "sick"), loss, after=after)
    optimizers = {name: make(list(net.parameters())) for name, net in nets.items()}
    engine = engine_of(Toy(nets, optimizers, [update], state=state))
    good = {**ROWS, "mild": torch.ones(4)}
    for _ in range(good_steps):
        engine.step(good)
    before = copy.deepcopy(engine.state_dict())
    engine.step({"x": torch.tensor([1.0, bad_value, 2.0, 3.0]), "mild": torch.ones(4)})
    after_bad = engine.state_dict()
    for key in ("nets", "state"):
        for name, tensor in before[key].items():
            if "num_batches" not in name:
                assert torch.equal(after_bad[key][name], tensor), name
    if good_steps:
        for name, optimizer in before["optimizers"].items():
            for number, moments in optimizer["state"].items():
                for moment, value in moments.items():
                    assert torch.equal(after_bad["optimizers"][name]["state"][number][moment], value), moment
    engine.step(good)
    assert all(tensor.isfinite().all() for tensor in engine.recipe.nets.state_dict().values())
    assert not torch.equal(nets["healthy"].value, before["nets"]["healthy.value"])


@pytest.mark.parametrize("make", OPTIMISERS.values(), ids=OPTIMISERS.keys())
def test_a_skipped_step_changes_nothing_of_what_follows(make):
    def weights_after(xs: list[float]) -> torch.Tensor:
        net = Weight(1.0)
        engine = engine_of(
            Toy({"net": net}, {"net": make(list(net.parameters()))}, [Update("u", ("net",), mean_of(net))])
        )
        for x in xs:
            engine.step({"x": torch.full((4,), x)})
        return net.value.detach()

    assert torch.equal(weights_after([1.0, math.nan, 2.0, math.inf, 3.0]), weights_after([1.0, 2.0, 3.0]))


def test_a_rare_update_moves_as_far_as_one_in_every_step():
    often, rare = Weight(), Weight()
    updates = [Update("often", ("often",), mean_of(often)), Update("rare", ("rare",), mean_of(rare), every=4)]
    optimizers = {"often": SGD(often.parameters(), lr=1), "rare": SGD(rare.parameters(), lr=1)}
    engine = engine_of(Toy({"often": often, "rare": rare}, optimizers, updates))
    seen = []
    for _ in range(8):
        engine.step(ROWS)
        seen.append((often.value.item(), rare.value.item()))
    mean = 2.5
    assert [rare for _, rare in seen] == [-4 * mean] * 4 + [-8 * mean] * 4
    assert [often for often, _ in seen] == [-mean * n for n in range(1, 9)]


def test_after_is_told_the_logs_of_its_step_weighted_over_unequal_micro_batches():
    net, told = Weight(1.0), []
    update = Update("u", ("net",), lambda b, p: (net(b["x"]).mean(), {"largest": b["x"].max()}), after=told.append)
    engine = engine_of(Toy({"net": net}, {"net": SGD(net.parameters(), lr=1)}, [update]), micro_batch=3)
    engine.step(ROWS)
    (logs,) = told
    assert set(logs) == {"loss", "largest"}
    assert all(
        isinstance(value, torch.Tensor) and value.shape == () and not value.requires_grad for value in logs.values()
    )
    assert logs["loss"].item() == pytest.approx(2.5)
    assert logs["largest"].item() == pytest.approx(3 * 3 / 4 + 4 * 1 / 4)
    assert net.value.item() == pytest.approx(1 - 2.5)  # it had moved before


def test_state_that_follows_the_logs_is_saved_and_taken_up():
    def made() -> tuple[Toy, Number]:
        net, balance = Weight(1.0), Number()
        update = Update("u", ("net",), mean_of(net), after=lambda logs: balance.value.add_(logs["loss"]))
        return Toy({"net": net}, {"net": SGD(net.parameters(), lr=0)}, [update], state={"balance": balance}), balance

    first, balance = made()
    engine = engine_of(first)
    engine.step(ROWS)
    engine.step(ROWS)
    assert balance.value.item() == 5.0
    second, taken_up = made()
    engine_of(second).load_state_dict(engine.state_dict())
    assert taken_up.value.item() == 5.0


def test_frozen_helpers_are_not_saved_do_not_learn_and_evaluate():
    helper, net = nn.Sequential(nn.BatchNorm1d(1), nn.Dropout()), Weight()
    recipe = Toy({"net": net}, {"net": SGD(net.parameters(), lr=1)}, frozen={"helper": helper})
    engine = engine_of(recipe)
    assert not any(module.training for module in helper.modules())
    assert not any(parameter.requires_grad for parameter in helper.parameters())
    assert "frozen" not in engine.state_dict()
    with engine.averaged():
        pass
    assert not helper.training


def test_each_average_follows_with_its_own_half_life_and_only_one_is_shown():
    net = Weight(0.0)
    update = Update("u", ("net",), lambda b, p: (-net(b["x"]).mean(), {}))
    averages = {
        "net": Average(half_life=4, ramp=None),
        "slow": Average("net", half_life=8, ramp=None),
        "last": Average("net", half_life=0),
    }
    engine = engine_of(Toy({"net": net}, {"net": SGD(net.parameters(), lr=0.4)}, [update], averages))
    engine.step(ROWS)  # from 0 to 1, in 4 images
    with engine.averaged():
        assert net.value.item() == pytest.approx(0.5)
    with engine.averaged(secondary="slow"):
        assert net.value.item() == pytest.approx(1 - 0.5**0.5)
    with engine.averaged(secondary="last"):
        assert net.value.item() == pytest.approx(1.0)
    assert net.value.item() == pytest.approx(1.0)
    assert set(engine.state_dict()["averages"]) == {"net.value", "slow.value", "last.value"}


def generator_and_encoder() -> tuple[Toy, dict[str, nn.Module]]:
    """A generator with two averages, and a net that has one and shares nothing with it."""
    sizes = {"latent": 2, "size": 8, "base_channels": 2, "channels": 1}
    nets = {"generator": DCGANGenerator(**sizes), "encoder": DCGANGenerator(**sizes)}
    averages = {"generator": Average(half_life=0), "slow": Average("generator", half_life=1e9, ramp=None)}
    inputs, outputs = {"latent": Latent((2,))}, {"image": Image(1, height=8, width=8)}
    recipe = Toy(nets, {"all": SGD(nn.ModuleDict(nets).parameters(), lr=1)}, averages=averages)
    architecture = Architecture.of(DCGANGenerator, **sizes)
    artifacts = {name: Artifact(net, architecture, inputs, outputs) for name, net in nets.items()}
    recipe.exports = lambda: artifacts  # type: ignore[method-assign]
    return recipe, nets


def test_each_artifact_leaves_with_its_primary_averages_and_once_with_each_other_one(tmp_path):
    recipe, nets = generator_and_encoder()
    engine = engine_of(recipe)
    began = copy.deepcopy(nets["generator"].state_dict())
    with torch.no_grad():
        for parameter in nets["generator"].parameters():
            parameter.add_(1.0)
    engine.averages.update(images=4, batch=4)
    assert export(engine, str(tmp_path)) == ["generator", "encoder", "generator-slow"]
    assert exported(str(tmp_path)) == ["generator", "encoder", "generator-slow"]
    left = {name: Artifact.load(tmp_path / name).net.state_dict() for name in exported(str(tmp_path))}
    for key, tensor in began.items():
        assert torch.equal(left["generator"][key], nets["generator"].state_dict()[key])
        torch.testing.assert_close(left["generator-slow"][key], tensor)
        assert torch.equal(left["encoder"][key], nets["encoder"].state_dict()[key])


def test_a_folder_where_nothing_was_exported_names_nothing(tmp_path):
    assert exported(str(tmp_path)) == []


@pytest.mark.parametrize("averages", [{"absent": Average()}, {"slow": Average("absent")}])
def test_an_average_of_no_net_is_refused(averages):
    with pytest.raises(UserError, match="of the net 'absent', and the recipe's nets are"):
        engine_of(Toy({"net": Weight()}, {}, averages=averages))


def test_an_average_called_as_another_net_is_refused():
    with pytest.raises(UserError, match="called as another net"):
        engine_of(Toy({"net": Weight(), "other": Weight()}, {}, averages={"other": Average("net")}))


class LastOfSequence(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(1, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.recurrent(x.transpose(1, 2))[0]


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "dense": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(8, 1)), (8,)),
    "sound": (lambda: nn.Sequential(nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2)), (1, 8)),
    "notes": (LastOfSequence, (1, 8)),
    "image": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 2, 3)), (3, 8, 8)),
    "voxels": (lambda: nn.Sequential(nn.Conv3d(2, 4, 3), nn.BatchNorm3d(4)), (2, 8, 8, 8)),
}


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("channels_last", [True, False])
def test_nets_of_every_dimension_learn_alike_in_either_layout(kind, channels_last):
    torch.manual_seed(0)
    make, shape = NETS[kind]
    net, plain = make(), None
    plain = copy.deepcopy(net)
    rows = {"x": torch.randn(4, *shape)}
    for one, layout in ((net, channels_last), (plain, False)):
        update = Update("u", ("net",), lambda b, p, one=one: (one(b["x"]).square().mean(), {}))
        engine = engine_of(Toy({"net": one}, {"net": SGD(one.parameters(), lr=0.1)}, [update]), channels_last=layout)
        engine.step(rows)
    torch.testing.assert_close(dict(net.named_parameters()), dict(plain.named_parameters()))


def test_only_nets_of_images_and_volumes_are_laid_out_channels_last():
    nets = {name: make() for name, (make, _) in NETS.items()}
    engine_of(Toy(nets, {}))
    assert nets["image"][0].weight.is_contiguous(memory_format=torch.channels_last)
    assert nets["image"][1].weight.is_contiguous(memory_format=torch.channels_last)
    assert nets["voxels"][0].weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert not nets["voxels"][0].weight.is_contiguous()
    for name in ("dense", "sound", "notes"):
        assert all(parameter.is_contiguous() for parameter in nets[name].parameters())


def test_progress_counts_the_images_that_were_in_the_batch():
    net = Weight()
    engine = engine_of(Toy({"net": net}, {"net": SGD(net.parameters(), lr=1)}, [Update("u", ("net",), mean_of(net))]))
    for rows in (4, 2, 7):
        engine.step({"x": torch.ones(rows)})
    assert engine.progress == Progress(images=13, step=3)


def test_lists_reach_prepare_and_micro_batches_cut_them():
    net, seen = Weight(), []

    def loss(batch: Batch, progress: Progress) -> tuple[torch.Tensor, Logs]:
        seen.append(batch["words"])
        return net(batch["x"]).mean(), {}

    recipe = Toy({"net": net}, {"net": SGD(net.parameters(), lr=1)}, [Update("u", ("net",), loss)])
    engine_of(recipe, micro_batch=3).step({**ROWS, "words": ["a", "b", "c", "d"]})
    assert seen == [["a", "b", "c"], ["d"]]
