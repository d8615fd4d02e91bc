"""Work in threads: in order, bounded, and honest about failures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from gan_lib.core.ordered_map import map_in_order


def test_results_come_in_the_order_of_the_items_however_long_each_takes() -> None:
    def work(item: int) -> int:
        time.sleep(0.01 * (item % 3 == 0))
        return item * item

    with ThreadPoolExecutor(4) as pool:
        results = list(map_in_order(pool, work, range(40), weigh=lambda item: 1, limit=8))
    assert results == [item * item for item in range(40)]


@pytest.mark.parametrize(("weight", "most"), [(1, 6), (2, 3), (100, 1)])
def test_items_are_drawn_only_while_those_at_hand_weigh_less_than_the_limit(weight: int, most: int) -> None:
    drawn = taken = 0

    def items() -> Iterator[int]:
        nonlocal drawn
        for item in range(50):
            drawn += 1
            assert drawn - taken <= most
            yield item

    with ThreadPoolExecutor(2) as pool:
        for _ in map_in_order(pool, lambda item: time.sleep(0.001), items(), weigh=lambda item: weight, limit=6):
            taken += 1
    assert drawn == taken == 50


def test_a_failure_comes_where_its_result_would_have_come() -> None:
    def work(item: int) -> float:
        return 1 / (item - 2)

    with ThreadPoolExecutor(2) as pool:
        results = map_in_order(pool, work, range(5), weigh=lambda item: 1, limit=4)
        assert [next(results), next(results)] == [-0.5, -1.0]
        with pytest.raises(ZeroDivisionError):
            next(results)


def test_no_items_give_no_results() -> None:
    with ThreadPoolExecutor(1) as pool:
        assert list(map_in_order(pool, str, [], weigh=lambda item: 1, limit=1)) == []
