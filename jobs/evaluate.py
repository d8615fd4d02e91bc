"""Judges registered generators by PSNR and SSIM on pictures that training never saw, and draws a before/after sheet.

spark-submit jobs/evaluate.py --config conf/evaluate/demo.yaml [--set pictures=/held/out ...]
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gan_lib import config, storage, tracking
from gan_lib.errors import UserError, run_job
from gan_lib.pictures import decode, encode_png
from gan_lib.scoring.evaluation import BICUBIC, TRUTH, EvaluateSettings, measure, prepare, summarise
from gan_lib.scoring.sheet import Strip, draw_sheet
from gan_lib.scoring.udf import generator_udf
from gan_lib.session import spark_session
from gan_lib.tracking import TrackingSettings
from gan_lib.translator import Translator


class EvaluateJob(EvaluateSettings):
    """An evaluation, and where it is written down."""

    tracking: TrackingSettings = TrackingSettings()


def main() -> None:
    """Measure, write the results, and log them."""
    arguments = config.arguments("Judge registered generators on held-out pictures.")
    job = config.load(EvaluateJob, arguments.config, arguments.set)
    spark = spark_session("evaluate")
    config_text = Path(arguments.config).read_text(encoding="utf-8")
    with tracking.run(job.tracking, "evaluate", job.model_dump(), config_text) as run:
        scale = common_scale(job)
        prepared = prepare(spark, job, scale).cache()
        shown = [
            row["name"] for row in prepared.where("reason is null").select("name").orderBy("name").take(job.sheet_rows)
        ]
        models = {name: generator_udf(spark, uri, tracking=job.tracking) for name, uri in job.models.items()}
        rows = [row.asDict() for row in measure(prepared, models, scale, job.border, shown).collect()]
        summary = summarise(rows)
        if not summary["pictures"]:
            raise UserError(
                f"{job.pictures} holds no picture that could be compared: {summary['rejected'] or 'it is empty'}."
            )
        write_results(job.output, rows, summary, shown, list(models))
        write_down(run, job, summary)
    for method, mean in summary["means"].items():
        print(f"{method:16} {mean['psnr']:6.2f} dB  SSIM {mean['ssim']:.4f}")
    print(f"{summary['pictures']} pictures compared, {len(summary['rejected'])} rejected; {job.output}/sheet.png")


def common_scale(job: EvaluateJob) -> int:
    """The factor by which all the models enlarge.

    Raises:
        UserError: a model is not there, or they differ.
    """
    scales = {}
    for name, uri in job.models.items():
        scales[name] = Translator.load(tracking.download_model(uri, job.tracking)).scale
    if len(set(scales.values())) != 1:
        raise UserError(f"The models enlarge by different factors and cannot share a sheet: {scales}.")
    return scales.popitem()[1]


def write_results(
    output: str,
    rows: Sequence[Mapping[str, Any]],
    summary: Mapping[str, Any],
    shown: Sequence[str],
    models: Sequence[str],
) -> None:
    """results.parquet (a row for each picture and method), summary.json and sheet.png below ``output``."""
    table = pa.Table.from_pylist([{k: v for k, v in row.items() if k != "detail"} for row in rows])
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    details = {(row["name"], row["method"]): row["detail"] for row in rows if row["detail"] is not None}
    columns = [BICUBIC, *models, TRUTH]
    strips = [
        Strip(name, {column: decode(details[name, column]) for column in columns})
        for name in shown
        if all((name, column) in details for column in columns)
    ]
    storage.write_atomic(storage.join(output, "results.parquet"), buffer.getvalue())
    storage.write_atomic(storage.join(output, "sheet.png"), encode_png(draw_sheet(strips)))
    storage.write_atomic(storage.join(output, "summary.json"), json.dumps(summary, indent=2).encode())


def write_down(run: tracking.Run, job: EvaluateJob, summary: Mapping[str, Any]) -> None:
    """Log the means, the pictures that were judged by, and the sheet."""
    run.log_metrics({f"{name}.{key}": value for name, mean in summary["means"].items() for key, value in mean.items()})
    run.log_metrics({"pictures": summary["pictures"], "rejected": len(summary["rejected"])})
    run.log_image("sheet", decode(storage.read_bytes(storage.join(job.output, "sheet.png"))))


if __name__ == "__main__":
    run_job(main)
