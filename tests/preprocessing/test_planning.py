"""Work is shared out by bytes, completely, and without the driver seeing a name."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gan_lib.cluster.parallelize import parallelize
from gan_lib.core.listing import branches, branches_by_task, files_of
from gan_lib.core.stores.commit_record import create_commit_record, read_commit_record
from gan_lib.preprocessing.planning import Plan, WorkUnit, plan_corpus, share_out
from gan_lib.preprocessing.publishing.merging import plan_files
from gan_lib.preprocessing.samples import COLUMNS, Part, Sample, from_batch, in_batches, to_batch

MEBIBYTE = 2**20


@given(costs=st.lists(st.integers(0, 90 * MEBIBYTE), max_size=300))
def test_tasks_hold_every_grain_once_and_only_a_giant_exceeds_the_bound(costs):
    work_units = [WorkUnit("listing", n, 1, cost) for n, cost in enumerate(costs)]
    tasks = share_out(work_units, 64 * MEBIBYTE)
    assert sorted((g for task in tasks for g in task), key=lambda g: g.row_group) == work_units
    for task in tasks:
        assert len(task) == 1 or sum(work_unit.cost for work_unit in task) <= 64 * MEBIBYTE
    totals = [sum(work_unit.cost for work_unit in task) for task in tasks]
    assert totals == sorted(totals, reverse=True)


def test_one_giant_image_gets_a_task_of_its_own_and_the_rest_is_even(spark, tmp_path):
    def work(first):
        sizes = [50 * 2**20 if first + n == 3 else 30_000 for n in range(1000)]
        return in_batches(Sample(f"{first + n:06d}", (Part("x", 0, size),)) for n, size in enumerate(sizes))

    frame = parallelize(spark, [0, 1000, 2000], work, COLUMNS)
    plan = plan_corpus(frame, str(tmp_path), (), 64 * MEBIBYTE)
    assert plan.samples == 3000
    names = [sample.name for task in plan.tasks for work_unit in task for sample in work_unit.read()]
    assert sorted(names) == [f"{n:06d}" for n in range(3000)]
    assert sum(work_unit.samples for work_unit in plan.tasks[0]) < 200
    others = [sum(work_unit.cost for work_unit in task) for task in plan.tasks[1:-3]]
    assert max(others) < 1.5 * min(others)


def test_a_plan_comes_back_from_its_file(tmp_path):
    plan = Plan(
        ((WorkUnit("a", 0, 3, 5), WorkUnit("b", 1, 2, 4)), (WorkUnit("c", 0, 1, 1),)), fingerprint=2**63, known=4
    )
    url = str(tmp_path / "plan.json")
    create_commit_record(url, plan.to_record())
    assert Plan.of_record(read_commit_record(url) or {}) == plan


def test_items_survive_arrow():
    samples = [Sample("ä", (Part("u", 1, 2), Part("v")), '{"label": 1}', "s"), Sample("b", (), problem="bad: it is")]
    assert list(from_batch(to_batch(samples))) == samples


def test_a_changed_file_has_another_fingerprint():
    sample = Sample("a", (Part("u", 0, 5),), etag="1")
    others = [
        Sample("b", sample.parts, etag="1"),
        Sample("a", (Part("u", 0, 6),), etag="1"),
        Sample("a", sample.parts, etag="2"),
    ]
    assert len({sample.fingerprint, *(other.fingerprint for other in others)}) == 4
    assert Sample("a", (Part("elsewhere", 0, 5),), etag="1").fingerprint == sample.fingerprint


@given(size=st.integers(0, 10**12), bits=st.integers(0, 12))
def test_files_share_all_bins_evenly(size, bits):
    outputs = plan_files("train", size, 128 * MEBIBYTE, bits, 1)
    edges = [output.first_bin for output in outputs] + [outputs[-1].end_bin]
    assert edges[0] == 0 and edges[-1] == 1 << bits
    assert len({output.end_bin - output.first_bin for output in outputs}) == 1
    assert all(left.end_bin == right.first_bin for left, right in pairwise(outputs))


@pytest.mark.parametrize("depth, fan", [(0, 1), (1, 5), (3, 9)])
def test_branches_of_a_tree_hold_every_file_once(tmp_path: Path, depth, fan):
    folders = [tmp_path]
    for _ in range(depth):
        folders = [folder / str(n) for folder in folders for n in range(fan)]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(2):
            (folder / f"{number}.jpg").write_bytes(b"x")
    found = [entry.url for task in branches_by_task(str(tmp_path)) for branch in task for entry in files_of(branch)]
    assert sorted(found) == sorted(str(path) for path in tmp_path.glob("**/*.jpg"))
    assert len(branches(str(tmp_path))) <= 600
