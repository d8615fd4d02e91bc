"""What an evaluation adds up over its samples."""

from __future__ import annotations

from gan_lib.evaluation.measured import Measured, summarise, to_batch


def test_a_sample_that_one_model_failed_on_counts_for_none():
    rows = [
        Measured("a", "bicubic", {"psnr": 20.0, "ssim": 0.5}),
        Measured("a", "net", {"psnr": 22.0, "ssim": 0.6}),
        Measured("b", "bicubic", {"psnr": 90.0, "ssim": 0.9}),
        Measured("b", "net", reason="failed: no memory"),
        Measured("c", "target", reason="corrupt: cut short"),
    ]
    assert summarise(rows) == {
        "samples": 1,
        "means": {"bicubic": {"psnr": 20.0, "ssim": 0.5}, "net": {"psnr": 22.0, "ssim": 0.6}},
        "rejected": {"b": "failed: no memory", "c": "corrupt: cut short"},
    }


def test_one_sample_that_is_met_exactly_leaves_the_mean_finite():
    rows = [Measured("black", "net", {"psnr": float("inf")}), Measured("cat", "net", {"psnr": 30.0})]
    assert summarise(rows)["means"]["net"]["psnr"] == 65.0


def test_nothing_measured_is_no_sample_and_no_mean():
    summary = summarise([Measured("c", "target", reason="corrupt")])
    assert summary["samples"] == 0 and summary["means"] == {}


def test_rows_come_back_from_a_record_batch_as_they_were():
    rows = [Measured("a", "net", {"psnr": 1.5, "ssim": 0.5}, crop=b"png"), Measured("b", "net", reason="corrupt: x")]
    back = [Measured(**{**row, "metrics": dict(row["metrics"])}) for row in to_batch(rows).to_pylist()]
    assert back == rows
