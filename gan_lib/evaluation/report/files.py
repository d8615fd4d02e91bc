"""The files of an evaluation: results.parquet, summary.json, comparison_grid.png and report.html."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gan_lib.core import storage
from gan_lib.core.images import Pixels, decode, encode_png
from gan_lib.evaluation.comparison_grid import Row, draw_grid
from gan_lib.evaluation.measured import Measured
from gan_lib.evaluation.prediction import Outcome
from gan_lib.evaluation.report.assembly import content_of
from gan_lib.evaluation.report.page import render
from gan_lib.evaluation.settings import AnyTask

RESULTS, SUMMARY, GRID, PAGE = "results.parquet", "summary.json", "comparison_grid.png", "report.html"


def write_report(output: str, outcome: Outcome) -> tuple[dict[str, Any], Pixels | None]:
    """Write the first three into the folder ``output``; gives the summary and the grid, None where nothing is shown.

    The table has a row for each sample and method: ``name``, ``method``, a column for each metric, and ``reason``.
    """
    summary = outcome.summary()
    storage.write_atomic(storage.join(output, RESULTS), _table(outcome.rows))
    storage.write_atomic(storage.join(output, SUMMARY), json.dumps(summary, indent=2).encode())
    rows = grid_rows(outcome)
    grid = draw_grid(rows) if rows else None
    if grid is not None:
        storage.write_atomic(storage.join(output, GRID), encode_png(grid))
    return summary, grid


def write_page(output: str, outcome: Outcome, settings: AnyTask) -> str:
    """Write report.html, one file that needs nothing else, into the folder ``output``; its text."""
    page = render(content_of(outcome, settings))
    storage.write_atomic(storage.join(output, PAGE), page.encode())
    return page


def grid_rows(outcome: Outcome) -> list[Row]:
    """The samples that every column has a crop of, in order of their names."""
    crops = {(row.name, row.method): decode(row.crop) for row in outcome.rows if row.crop is not None}
    return [
        Row(name, {column: crops[name, column] for column in outcome.columns})
        for name in dict.fromkeys(row.name for row in outcome.rows)
        if all((name, column) in crops for column in outcome.columns)
    ]


def _table(rows: Sequence[Measured]) -> bytes:
    metrics = dict.fromkeys(metric for row in rows for metric in row.metrics)
    fields = [("name", pa.string()), ("method", pa.string())]
    fields += [(metric, pa.float64()) for metric in metrics]
    schema = pa.schema([*fields, ("reason", pa.string())])
    values: list[Mapping[str, Any]] = [
        {"name": row.name, "method": row.method, **row.metrics, "reason": row.reason} for row in rows
    ]
    content = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(values, schema=schema), content)
    return content.getvalue()
