"""The arithmetic of an epoch, over random sizes, ranks, batches and seeds."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gan_lib.core.random import hash_bits
from gan_lib.loading.plan import EpochOrder, Plan, permutation

sizes = st.lists(st.integers(1, 40), min_size=1, max_size=20).map(lambda s: np.array(s))
plans = st.builds(Plan, sizes, st.integers(0, 2**40), st.integers(1, 12), st.integers(1, 4))
epochs = st.integers(0, 1000)


def numbers_at(plan: Plan, order: EpochOrder, indices: np.ndarray) -> np.ndarray:
    """Rows counted over the whole dataset."""
    groups, rows = order.rows_at(indices)
    assert (rows < plan.sizes[groups]).all()
    return plan.starts[groups] + rows


def steps_of(plan: Plan, order: EpochOrder, rank: int, ranks: int, batch: int, start: int = 0) -> list[np.ndarray]:
    """The rows of each batch that the rank gets from index ``start`` on, as the loader cuts them."""
    step = ranks * batch
    firsts = range(start, order.rows - step + 1, step)
    return [numbers_at(plan, order, np.arange(f + (rank - f) % ranks, f + step, ranks)) for f in firsts]


@given(plans, epochs, st.data())
def test_an_epoch_reads_each_row_once_but_those_dropped(plan, epoch, data):
    remainder = data.draw(st.integers(0, plan.rows - 1))
    order = plan.epoch(epoch, remainder)
    read = numbers_at(plan, order, np.arange(order.rows))
    assert sorted([*read, *plan.dropped_rows(epoch, remainder)]) == list(range(plan.rows))


@given(plans, st.data())
def test_every_row_is_dropped_once_before_any_is_dropped_twice(plan, data):
    count = data.draw(st.integers(1, plan.rows))
    dropped = np.concatenate([plan.dropped_rows(epoch, count) for epoch in range(plan.rows)])
    assert (np.bincount(dropped, minlength=plan.rows) == count).all()
    first_round = dropped[: plan.rows]
    assert len(set(first_round)) == plan.rows


@given(plans, epochs, st.integers(1, 7), st.integers(1, 9))
def test_ranks_get_equally_many_batches_of_different_rows(plan, epoch, ranks, batch):
    order = plan.epoch(epoch, plan.rows % (ranks * batch)) if plan.rows >= ranks * batch else plan.epoch(epoch)
    parts_of_ranks = [steps_of(plan, order, rank, ranks, batch) for rank in range(ranks)]
    assert len({len(part) for part in parts_of_ranks}) == 1
    read = [row for part in parts_of_ranks for rows in part for row in rows]
    assert len(read) == len(set(read)) == len(parts_of_ranks[0]) * ranks * batch


@given(plans, epochs, st.integers(1, 7), st.data())
def test_the_global_batch_does_not_depend_on_the_number_of_ranks(plan, epoch, ranks, data):
    order = plan.epoch(epoch)
    first = data.draw(st.integers(0, order.rows - 1))
    indices = np.arange(first, order.rows)
    one = numbers_at(plan, order, indices)
    for rank in range(ranks):
        assert (numbers_at(plan, plan.epoch(epoch), indices[rank::ranks]) == one[rank::ranks]).all()


@given(plans, epochs, st.integers(1, 5), st.integers(1, 5), st.data())
def test_continuing_from_any_step_gives_the_rest_of_the_epoch(plan, epoch, ranks, batch, data):
    whole = steps_of(plan, plan.epoch(epoch), 0, ranks, batch)
    done = data.draw(st.integers(0, len(whole)))
    rest = steps_of(plan, plan.epoch(epoch), 0, ranks, batch, start=done * ranks * batch)
    assert [list(rows) for rows in rest] == [list(rows) for rows in whole[done:]]


@given(
    plans, epochs, st.lists(st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(0, 3)), min_size=2, max_size=5)
)
def test_ranks_may_change_between_any_two_steps_without_a_row_repeated_or_skipped(plan, epoch, segments):
    order, index, read = plan.epoch(epoch), 0, []
    for ranks, batch, most_steps in segments:
        steps = min(most_steps, (order.rows - index) // (ranks * batch))
        for rank in range(ranks):
            read += [row for rows in steps_of(plan, order, rank, ranks, batch, index)[:steps] for row in rows]
        index += steps * ranks * batch
    assert sorted(read) == sorted(numbers_at(plan, order, np.arange(index)))
    assert len(set(read)) == index


@given(plans, epochs, st.integers(1, 9), st.data())
def test_the_reading_list_names_every_row_group_of_a_rank_while_it_is_needed(plan, epoch, ranks, data):
    order = plan.epoch(epoch, data.draw(st.integers(0, plan.rows - 1)))
    start, rank = data.draw(st.integers(0, order.rows)), data.draw(st.integers(0, ranks - 1))
    groups, first, last = order.reading_list(rank, ranks, start)
    assert len(set(groups)) == len(groups) and (np.diff(first) >= 0).all()
    needed = dict(zip(groups.tolist(), zip(first, last, strict=True), strict=True))
    indices = np.arange(order.rows)
    mine = indices[(indices >= start) & (indices % ranks == rank)]
    for index, group in zip(mine, order.rows_at(mine)[0].tolist(), strict=True):
        assert needed[group][0] <= index <= needed[group][1]


def test_ranks_that_divide_the_streams_read_almost_only_row_groups_of_their_own():
    plan = Plan(np.full(240, 100), seed=1, streams=24)
    read = [len(plan.epoch(0).reading_list(rank, 8)[0]) for rank in range(8)]
    assert sum(read) <= 240 + 24


def test_a_single_rank_holds_no_more_row_groups_at_once_than_there_are_streams_and_their_shuffle_blocks():
    plan = Plan(np.full(200, 50), seed=2, streams=12, shuffle_block=2)
    _, first, last = plan.epoch(0).reading_list(0, 1)
    held = [int(((first <= index) & (last >= index)).sum()) for index in range(plan.rows)]
    assert max(held) <= 12 * 2 + 12 / 2  # and at the end, those that two streams share


def test_shuffling_leaves_no_trace_of_the_storage_order_and_parts_neighbours():
    correlations, distances = [], []
    for seed in range(40):
        plan = Plan(np.full(64, 32), seed, streams=16)
        order = plan.epoch(seed)
        read = numbers_at(plan, order, np.arange(order.rows))
        correlations.append(np.corrcoef(read, np.arange(order.rows))[0, 1])
        distances.append(np.abs(np.diff(np.argsort(read))).mean() / order.rows)
    assert abs(np.mean(correlations)) < 0.06  # 64 row groups in random order: 40 means deviate by 0.02
    # Neighbours on disk would lie 1/3 of an epoch apart if the shuffle were perfect. A stream reads a row group within
    # 1/4 of the epoch, so two rows of it are 1/12 apart on average.
    assert np.mean(distances) > 0.08


def test_epochs_and_seeds_have_orders_of_their_own():
    sizes = np.full(10, 10)
    orders = {
        tuple(numbers_at(plan, plan.epoch(epoch), np.arange(100)))
        for plan in (Plan(sizes, seed, 4) for seed in range(3))
        for epoch in range(3)
    }
    assert len(orders) == 9


def test_the_order_is_the_same_today_as_when_a_run_was_saved():
    plan = Plan(np.array([3, 2, 4]), seed=5, streams=2)
    assert numbers_at(plan, plan.epoch(1), np.arange(9)).tolist() == SAVED_ORDER


def test_hashed_bits_are_even_and_permutations_uniform():
    bits = hash_bits(7, np.arange(20000))
    for bit in range(64):
        assert abs(((bits >> np.uint64(bit)) & np.uint64(1)).mean() - 0.5) < 0.02
    first = np.bincount([permutation(5, seed)[0] for seed in range(5000)], minlength=5)
    assert (abs(first - 1000) < 150).all()


SAVED_ORDER = [6, 3, 8, 4, 7, 1, 5, 2, 0]
