"""Judges registered predictors by PSNR and SSIM on images that training never saw, and draws a before/after sheet.

spark-submit jobs/evaluate.py --config conf/evaluate/demo.yaml [--set images=/held/out ...]
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gan_lib import tracking
from gan_lib.cluster.session import spark_session
from gan_lib.core import config, storage
from gan_lib.core.errors import UserError, run_job
from gan_lib.core.images import decode, encode_png
from gan_lib.evaluation.comparison_grid import Strip, draw_sheet
from gan_lib.evaluation.super_resolution import BICUBIC, TRUTH, EvaluateSettings, Measured, evaluate, summarise
from gan_lib.scoring.model import fetch
from gan_lib.tracking import TrackingSettings


class EvaluateJob(EvaluateSettings):
    """An evaluation, and where it is written down."""

    tracking: TrackingSettings = TrackingSettings()


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, write the results, and log them."""
    arguments = config.arguments("Judge registered predictors on held-out images.", argv)
    job = config.load(EvaluateJob, arguments.config, arguments.set)
    spark = spark_session("evaluate")
    with tracking.run(job.tracking, "evaluate", job.model_dump(), job.model_dump()) as run:
        models = {name: fetch(spark, uri, job.tracking) for name, uri in job.models.items()}
        rows = evaluate(spark, job, models)
        summary = summarise(rows)
        if not summary["images"]:
            raise UserError(f"No image of {job.images} could be compared: {summary['rejected']}.")
        write_results(job.output, rows, summary, [BICUBIC, *job.models, TRUTH])
        write_down(run, job, summary)
    for method, mean in summary["means"].items():
        print(f"{method:16} {mean['psnr']:6.2f} dB  SSIM {mean['ssim']:.4f}")
    print(f"{summary['images']} images compared, {len(summary['rejected'])} rejected; {job.output}/sheet.png")


def write_results(output: str, rows: Sequence[Measured], summary: Mapping[str, Any], columns: Sequence[str]) -> None:
    """results.parquet (a row for each image and method), summary.json and sheet.png below ``output``."""
    figures = [{key: value for key, value in vars(row).items() if key != "detail"} for row in rows]
    table = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(figures), table)
    storage.write_atomic(storage.join(output, "results.parquet"), table.getvalue())
    storage.write_atomic(storage.join(output, "summary.json"), json.dumps(summary, indent=2).encode())
    details = {(row.name, row.method): decode(row.detail) for row in rows if row.detail is not None}
    strips = [
        Strip(name, {column: details[name, column] for column in columns})
        for name in dict.fromkeys(name for name, _ in details)
        if all((name, column) in details for column in columns)
    ]
    if strips:
        storage.write_atomic(storage.join(output, "sheet.png"), encode_png(draw_sheet(strips)))


def write_down(run: tracking.Run, job: EvaluateJob, summary: Mapping[str, Any]) -> None:
    """Log the means and the sheet."""
    run.log_metrics({f"{name}.{key}": value for name, mean in summary["means"].items() for key, value in mean.items()})
    run.log_metrics({"images": summary["images"], "rejected": len(summary["rejected"])})
    sheet = storage.join(job.output, "sheet.png")
    if storage.exists(sheet):
        run.log_image("sheet", decode(storage.read_bytes(sheet)))


if __name__ == "__main__":
    run_job(main)
