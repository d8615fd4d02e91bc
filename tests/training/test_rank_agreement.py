"""What ranks share and what each keeps for itself. Real processes, real gloo."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two ranks found."""
    meeting = tmp_path_factory.mktemp("ranks") / "meeting"
    script = Path(__file__).with_name("toy_ranks.py")
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), "2", str(meeting)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors
    return [json.loads(output.splitlines()[-1]) for output, _ in outputs]


def test_ranks_begin_with_the_first_ones_weights_and_move_by_their_mean_gradient(ranks):
    assert [rank["weight"] for rank in ranks] == [0 - 1.5] * 2


def test_after_is_told_the_mean_over_the_ranks(ranks):
    assert [rank["told"] for rank in ranks] == [[{"loss": 0.0, "x": 1.5}]] * 2


def test_state_is_the_ranks_mean_after_each_step_and_saved_once(ranks):
    assert [rank["state"] for rank in ranks] == [1.5, 1.5]
    assert [rank["saved_state"] for rank in ranks] == [1.5, 1.5]


def test_rank_state_is_never_reduced_and_saved_for_each_rank(ranks):
    assert [rank["own"] for rank in ranks] == [1.0, 2.0]
    assert [rank["saved_of_ranks"] for rank in ranks] == [[1.0, 2.0]] * 2


def test_progress_counts_the_images_of_all_ranks(ranks):
    assert [rank["images"] for rank in ranks] == [4, 4]


def test_gradients_that_are_ready_in_another_order_on_each_rank_are_not_mixed_up(ranks):
    assert [rank["pair"] for rank in ranks] == [[1 - 1.5, 1 - 15.0]] * 2


def test_tensors_of_any_shape_are_gathered_in_rank_order(ranks):
    expected = [{"all": [0], "only_0": [[], []]}, {"all": [0, 1], "only_1": [[0.5], [0.5]]}]
    assert [rank["gathered"] for rank in ranks] == [expected] * 2


def test_a_metric_of_all_ranks_is_that_of_all_rows(ranks):
    assert [rank["validation/mean"] for rank in ranks] == [pytest.approx((16 + 16 + 1) / 9)] * 2


def test_one_rank_without_units_for_bfloat16_lets_all_compute_in_float32(ranks):
    reason = "rank 1 finds no units for bfloat16 (oneDNN is limited to AVX512_CORE), though it began in bfloat16"
    assert [rank["precision"] for rank in ranks] == [["float32", "bfloat16", reason]] * 2
