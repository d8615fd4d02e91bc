"""The notebook's cells run from top to bottom, with small parameters, in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from PIL import Image


def program_of(notebook: Path, **parameters: object) -> str:
    """The notebook's code as one script; ``parameters`` are set after the cell tagged so, as papermill does."""
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    parts = []
    for cell in cells:
        parts.append("".join(cell["source"]))
        if "parameters" in cell["metadata"].get("tags", ()):
            parts += [f"{name} = {value!r}" for name, value in parameters.items()]
    return "\n\n".join(parts)


def test_the_notebook_runs_from_top_to_bottom(repository: Path, photos: Path, tmp_path: Path):
    images = tmp_path / "images"
    images.mkdir()
    for name in ("astronaut.png", "coffee.png", "chelsea.png"):
        Image.open(photos / name).convert("RGB").crop((40, 40, 200, 200)).save(images / name)
    program = program_of(
        repository / "notebooks" / "main_job.ipynb",
        IMAGES=str(images),
        OUTPUT=str(tmp_path / "out"),
        SECONDS=3,
        PROCESSES=1,
    )
    script = tmp_path / "notebook.py"
    closing = "print('widths', [row[0] for row in enlarged.select('result.width').collect()])\nspark.stop()\n"
    script.write_text(f"{program}\n{closing}")
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=repository,
        env={
            **os.environ,
            "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
            "MPLBACKEND": "agg",
            "PYSPARK_PYTHON": sys.executable,
            "PYTHONPATH": str(repository),
        },
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "widths [640, 640, 640]" in done.stdout, done.stdout
