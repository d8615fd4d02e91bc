"""Plots of a version's statistics, for the page of its MLflow run. Nothing is computed here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gan_lib.dataset.manifest import Manifest


def statistics_plots(manifest: Manifest) -> dict[str, np.ndarray]:
    """name -> H x W x 3 uint8: what became of the samples, why some were rejected, how large images are."""
    plots = {
        "counts": _bars("samples", manifest.counts),
        "rows": _bars("rows", {name: split.rows for name, split in manifest.splits.items()}),
    }
    if "side_edges" in manifest.statistics:
        plots["sizes"] = _sides(manifest.statistics)
    if manifest.rejects:
        plots["rejects"] = _bars("rejected samples", manifest.rejects)
    return plots


def _bars(quantity: str, heights: Mapping[str, int]) -> np.ndarray:
    figure, axes = _figure()
    axes.barh(list(heights), list(heights.values()))
    axes.set_xlabel(quantity)
    for row, value in enumerate(heights.values()):
        axes.text(value, row, f" {value:,}", va="center")
    return _drawn(figure)


def _sides(numbers: Mapping[str, Any]) -> np.ndarray:
    figure, axes = _figure()
    labels = [f"{low} up" for low in numbers["side_edges"][:-1]]
    positions = np.arange(len(labels))
    axes.bar(positions - 0.2, numbers["shorter_side"], 0.4, label="shorter side")
    axes.bar(positions + 0.2, numbers["longer_side"], 0.4, label="longer side")
    axes.set_xticks(positions, labels, rotation=60)
    axes.set_xlabel("pixels")
    axes.set_ylabel("images")
    axes.legend()
    return _drawn(figure)


def _figure() -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _drawn(figure: Any) -> np.ndarray:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()
