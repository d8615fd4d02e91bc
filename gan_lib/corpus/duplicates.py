"""Which samples are copies of others, decided from hashes alone, the same way on every machine and in every run.

Of equal samples the one with the smallest name stays; what an earlier version has published always stays.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

COLUMNS = ["item", "name", "content"]


def exact_copies(new: pa.Table, known: pa.Table) -> pa.Table:
    """The samples of ``new`` whose bytes are also those of another sample that stays.

    Args:
        new: columns item, name, content (16 bytes): the samples of this run.
        known: the same of the versions before.

    Returns:
        A table of item (in ``new``) and kept (the name of the sample that stays), sorted by item.
    """
    both = pa.concat_tables(
        [
            known.select(COLUMNS).append_column("rank", pa.array(np.zeros(len(known), np.int8))),
            new.select(COLUMNS).append_column("rank", pa.array(np.ones(len(new), np.int8))),
        ]
    ).sort_by([("content", "ascending"), ("rank", "ascending"), ("name", "ascending")])
    content = np.frombuffer(b"".join(both["content"].to_pylist()), "V16")
    starts = np.append(True, content[1:] != content[:-1])[: len(both)]
    keeper = np.maximum.accumulate(np.where(starts, np.arange(len(both)), 0))
    copies = ~starts & (both["rank"].to_numpy() == 1)
    table = pa.table({"item": pc.filter(both["item"], copies), "kept": pc.take(both["name"], pa.array(keeper[copies]))})
    return table.sort_by("item")
