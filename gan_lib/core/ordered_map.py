"""``map`` on a pool of threads: results in the order of the items, and never more of them at hand than a limit says."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_order(
    pool: Executor,
    work: Callable[[Item], Result],
    items: Iterable[Item],
    weigh: Callable[[Item], int],
    limit: int,
) -> Iterator[Result]:
    """``map(work, items)`` in the items' order.

    An item is drawn only while those that are being worked on, or whose results wait to be taken, weigh less than
    ``limit`` together; so at most ``limit`` and one item more are held. An exception of ``work`` is raised where its
    result would have come.

    Args:
        pool: where ``work`` runs; it stays open.
        work: called once for each item, side by side.
        items: drawn in the caller's thread.
        weigh: what an item costs, such as 1 or its bytes.
        limit: how much may wait.
    """
    waiting: deque[tuple[Future[Result], int]] = deque()
    weight = 0
    for item in items:
        waiting.append((pool.submit(work, item), weigh(item)))
        weight += waiting[-1][1]
        while waiting and (weight >= limit or waiting[0][0].done()):
            future, freed = waiting.popleft()
            weight -= freed
            yield future.result()
    while waiting:
        yield waiting.popleft()[0].result()
