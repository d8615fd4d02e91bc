"""What one of several ranks does in test_rank_agreement. Not a test.

toy_ranks.py RANK WORLD_SIZE MEETING_FILE -> what it found, as JSON, in the last line.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import torch
import torch.distributed as dist
from torch.optim import SGD
from toy_recipes import Number, Toy, Weight, engine_of

from gan_lib.metrics.metric import Mean
from gan_lib.recipes.protocol import Update
from gan_lib.training.distributed import precision as training_precision
from gan_lib.training.distributed.group import Group
from gan_lib.training.validation import HeldOut, measure

CPU = torch.device("cpu")


def main(rank: int, world_size: int, meeting: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world_size)
    group = Group(rank, world_size)
    found = {**precision(group), **one_step(group), **two_optimisers(group), **gathered(group), **measured(group)}
    print(json.dumps(found))
    sys.stdout.flush()
    os._exit(0)  # as the launcher's ranks do: gloo's threads may abort an interpreter that is taken down


def precision(group: Group) -> dict[str, Any]:
    """Only rank 0 finds units for bfloat16, and the training began in it."""
    training_precision.has_bfloat16_units = lambda device: group.rank == 0
    chosen = training_precision.choose("auto", "bfloat16", group, CPU)
    return {"precision": [chosen.format, chosen.began_in, chosen.reason]}


def one_step(group: Group) -> dict[str, Any]:
    """Ranks whose weights and batches differ; rank r sees r + 1."""
    net, shared, own, told = Weight(float(group.rank)), Number(), Number(), []

    def after(logs: dict[str, torch.Tensor]) -> None:
        told.append({name: value.item() for name, value in logs.items()})

    def loss(batch: dict[str, torch.Tensor], progress: object) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        shared.value.add_(batch["x"].mean())
        own.value.add_(batch["x"].mean())
        return net(batch["x"]).mean(), {"x": batch["x"].mean()}

    update = Update("u", ("net",), loss, after=after)
    recipe = Toy(
        {"net": net}, {"net": SGD(net.parameters(), lr=1)}, [update], state={"s": shared}, rank_state={"r": own}
    )
    engine = engine_of(recipe, group=group)
    engine.step({"x": torch.full((2,), group.rank + 1.0)})
    saved = engine.state_dict()
    return {
        "weight": net.value.item(),
        "told": told,
        "state": shared.value.item(),
        "own": own.value.item(),
        "saved_state": saved["state"]["s.value"].item(),
        "saved_of_ranks": [each["r.value"].item() for each in saved["rank_state"]],
        "images": engine.progress.images,
    }


def two_optimisers(group: Group) -> dict[str, Any]:
    """One update of two optimisers whose gradients are ready in another order on each rank."""
    first, second = Weight(1.0), Weight(1.0)

    def loss(batch: dict[str, torch.Tensor], progress: object) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        nets = (first, second) if group.rank == 0 else (second, first)
        early = sum((net(batch["x"]) * (1 if net is first else 10)).mean() for net in nets)
        return early, {}

    optimizers = {"first": SGD(first.parameters(), lr=1), "second": SGD(second.parameters(), lr=1)}
    recipe = Toy({"first": first, "second": second}, optimizers, [Update("u", ("first", "second"), loss)])
    engine_of(recipe, group=group).step({"x": torch.full((2,), group.rank + 1.0)})
    return {"pair": [first.value.item(), second.value.item()]}


def gathered(group: Group) -> dict[str, Any]:
    """Tensors whose names and shapes differ between ranks."""
    own = {"all": torch.arange(group.rank + 1), f"only_{group.rank}": torch.full((2, group.rank), 0.5)}
    return {"gathered": [{name: t.tolist() for name, t in each.items()} for each in group.gather(own, CPU)]}


def measured(group: Group) -> dict[str, Any]:
    """A mean over batches that are cut unevenly: ranks have as many, or one more."""
    batches = [{"x": torch.full((rows,), float(rows))} for rows in (4, 4, 1)]
    held_out = HeldOut(batches[0], batches[group.rank :: group.size])
    recipe = Toy({"net": Weight()}, {})
    recipe.metrics = lambda: {"mean": Mean(lambda batch: batch["x"])}  # type: ignore[method-assign]
    return measure(recipe, held_out, group, CPU)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
