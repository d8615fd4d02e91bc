"""Where batches come from: orders, two datasets side by side, and going on elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from toy_recipes import Toy

from gan_lib.dataset.info import FieldInfo
from gan_lib.recipes.protocol import Batch, Recipe
from gan_lib.training.data_source import (
    CollatedDataSource,
    Datasets,
    DataSource,
    PairedDataSource,
    TensorDataSource,
    join_batches,
    open_data_source,
)
from gan_lib.training.distributed.group import Group
from gan_lib.training.settings import DataSettings, TrainingSettings

CPU = torch.device("cpu")


def numbers(count: int, batch: int, **ranks: int) -> TensorDataSource:
    return TensorDataSource({"number": torch.arange(count)}, batch, seed=3, **ranks)


def test_tensors_give_each_row_once_an_epoch_in_another_order_each():
    batches = numbers(12, 4).forever()
    epochs = [torch.cat([next(batches)["number"] for _ in range(3)]).tolist() for _ in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(12))
    assert epochs[0] != epochs[1]


def test_an_order_taken_up_by_two_ranks_goes_on_where_one_stood():
    one = numbers(12, 4)
    batches = one.forever()
    next(batches)
    ranks = [numbers(12, 2, rank=rank, world_size=2) for rank in (0, 1)]
    for rank in ranks:
        rank.load_state_dict(one.state_dict())
    together = torch.cat([next(rank.forever())["number"] for rank in ranks])
    assert torch.equal(together, next(batches)["number"])


def test_another_batch_size_goes_on_in_the_same_order():
    whole, parts = numbers(12, 12).forever(), numbers(12, 2)
    batches = parts.forever()
    found = [next(batches)["number"]]
    parts.set_batch_size(10)
    found.append(next(batches)["number"])
    assert torch.equal(torch.cat(found), next(whole)["number"])


def test_a_pair_reads_both_in_orders_of_their_own_and_resumes_both():
    pair = PairedDataSource(numbers(6, 2), numbers(10, 2))
    batches = pair.forever()
    next(batches)
    state = pair.state_dict()
    expected = next(batches)
    assert {"number", "domain_b_number", "position", "domain_b_position"} == set(expected)
    again = PairedDataSource(numbers(6, 2), numbers(10, 2))
    again.load_state_dict(state)
    found = next(again.forever())
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_a_pair_tells_what_both_hold():
    info = PairedDataSource(numbers(6, 2), TensorDataSource({"x": torch.zeros(5, 2, 3)}, 2, seed=0)).info()
    assert (info.rows, info.domain_b.rows) == (6, 5)
    assert info["number"] == FieldInfo((), "int64", "scalar")
    assert info["domain_b_x"] == FieldInfo((2, 3), "float32", "array")


def test_batches_are_joined_as_tensors_where_shapes_agree_and_as_lists_elsewhere():
    one = {"x": torch.zeros(1, 2), "t": ["a"], "v": [torch.zeros(3)]}
    two = {"x": torch.ones(2, 2), "t": ["b", "c"], "v": [torch.zeros(1), torch.zeros(2)]}
    joined = join_batches([one, two])
    assert joined["x"].tolist() == [[0, 0], [1, 1], [1, 1]]
    assert joined["t"] == ["a", "b", "c"]
    assert [len(value) for value in joined["v"]] == [3, 1, 2]
    assert isinstance(join_batches([{"p": torch.zeros(1, 2)}, {"p": torch.zeros(1, 3)}])["p"], list)


class WordsRecipe(Toy):
    """Collates what it is given: numbers become tens of themselves, and it says which fields were there."""

    def __init__(self) -> None:
        super().__init__({}, {})

    def collate(self, rows: Batch) -> Batch:
        return {"tens": rows["number"] * 10, "fields": sorted(rows), "position": rows["position"]}


def opened(recipe: Recipe, url: str, batch_size: int = 8, **data: Any) -> DataSource:
    settings = DataSettings(url=url, threads=1, **data)
    training = TrainingSettings(images=100, batch_size=batch_size)
    return open_data_source(Datasets.open(settings, "train"), settings, training, recipe, Group(), CPU)


def first_epoch(source: DataSource, batches: int, field: str) -> list[int]:
    try:
        rows = source.forever()
        return torch.cat([next(rows)[field] for _ in range(batches)]).tolist()
    finally:
        source.close()


def test_two_datasets_of_equal_size_are_read_in_orders_of_their_own(patches: str):
    pair = opened(Toy({}, {}), patches, domain_b=patches)
    rows = pair.forever()
    found = [next(rows) for _ in range(6)]
    pair.close()
    own, other = (torch.cat([batch[name] for batch in found]).tolist() for name in ("number", "domain_b_number"))
    assert sorted(own) == sorted(other) == list(range(48))
    assert own != other
    assert sum(a == b for a, b in zip(own, other, strict=True)) < 24
    assert first_epoch(opened(Toy({}, {}), patches), 6, "number") == own  # beside another or alone


def test_rows_are_collated_before_they_are_batches_of_one_dataset_or_of_two(patches: str):
    one = opened(WordsRecipe(), patches)
    batch = next(one.forever())
    one.close()
    assert batch["fields"] == ["image", "number", "position"]
    two = opened(WordsRecipe(), patches, domain_b=patches)
    batch = next(two.forever())
    two.close()
    assert "domain_b_number" in batch["fields"] and "number" in batch["fields"]
    assert all(tens % 10 == 0 for tens in batch["tens"].tolist())


def test_a_users_own_data_source_is_collated_too():
    source = CollatedDataSource(numbers(8, 4), WordsRecipe().collate, CPU)
    assert next(source.forever())["fields"] == ["number", "position"]
    assert source.state_dict() == {"images": 4}


def test_a_dataset_cached_decoded_gives_the_same_batches(patches: str, tmp_path: Path):
    plain = first_epoch(opened(Toy({}, {}), patches), 12, "number")
    cache = {"kind": "decoded", "folder": str(tmp_path / "cache")}
    assert first_epoch(opened(Toy({}, {}), patches, cache=cache), 12, "number") == plain
    assert any((tmp_path / "cache").rglob("image.rows"))


def test_the_seed_of_a_training_orders_its_rows(patches: str):
    settings = DataSettings(url=patches, threads=1)
    orders = []
    for seed in (0, 0, 1):
        training = TrainingSettings(images=100, batch_size=8, seed=seed)
        source = open_data_source(Datasets.open(settings, "train"), settings, training, Toy({}, {}), Group(), CPU)
        orders.append(first_epoch(source, 6, "number"))
    assert orders[0] == orders[1] != orders[2]
