"""How MLflow runs a registered generator: seeds and conditions in, text or base64 of encoded samples out.

Base64, because neither MLflow's UDF nor JSON can carry bytes; and no nulls, which that UDF cannot carry either. It
imports neither mlflow nor Spark.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
import torch

from gan_lib.export.artifact import Artifact
from gan_lib.export.ports import Image, LabelMap, Tokens
from gan_lib.export.signature import ERROR, HEIGHT, SEED, WIDTH, column_of
from gan_lib.scoring.generation.maker import SampleMaker
from gan_lib.scoring.generation.outputs.sample_formats import formats_of
from gan_lib.scoring.generation.rows import Sample, SampleRow, is_missing, whole_seed
from gan_lib.scoring.settings import EncodingSettings


class GenerationModel:
    """What ``mlflow.pyfunc.load_model(uri).predict`` calls for a model that makes samples from noise or conditions."""

    def __init__(self, artifact: Artifact) -> None:
        """
        Raises:
            UserError: the artifact takes or gives what a row cannot hold.
        """
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._artifact = artifact
        self._formats = formats_of(artifact.outputs, EncodingSettings())
        self._maker = SampleMaker(artifact, device)

    def predict(self, rows: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """A sample for each row of :func:`~gan_lib.export.signature.input_columns`, in their order.

        Without a column ``seed``, the row's number is its seed. The result has
        :func:`~gan_lib.export.signature.output_columns`: text as it is and all else as base64; ``error`` is empty where
        all is well, and where it is not the rest is.
        """
        return pd.DataFrame([self._row(sample) for sample in self._maker.run(self._rows(rows))], index=rows.index)

    def _rows(self, rows: pd.DataFrame) -> Iterator[SampleRow]:
        columns = {name: column_of(self._artifact.inputs, name) for name in self._artifact.inputs}
        given = {name: rows[column] for name, column in columns.items() if column in rows}
        seeds = rows[SEED] if SEED in rows else range(len(rows))
        for number, seed in enumerate(seeds):
            values = {name: series.iloc[number] for name, series in given.items()}
            yield SampleRow(None, whole_seed(seed), {name: v for name, v in values.items() if not is_missing(v)})

    def _row(self, sample: Sample) -> dict[str, Any]:
        outputs = self._artifact.outputs
        row: dict[str, Any] = {column_of(outputs, name): "" for name in outputs}
        sized = next((name for name, port in outputs.items() if isinstance(port, Image | LabelMap)), None)
        size = {WIDTH: 0, HEIGHT: 0} if sized is not None else {}
        if sample.arrays is None:
            return {**row, **size, ERROR: f"{sample.reason}: {sample.message}"}
        for name, content in self._contents(sample.arrays).items():
            row[column_of(outputs, name)] = content
        if sized is not None:
            size[HEIGHT], size[WIDTH] = sample.arrays[sized].shape[:2]
        return {**row, **size, ERROR: ""}

    def _contents(self, arrays: Mapping[str, Any]) -> dict[str, str]:
        encoded = {name: format.encode(arrays[name]) for name, format in self._formats.items()}
        return {
            name: content.decode()
            if isinstance(self._artifact.outputs[name], Tokens)
            else base64.b64encode(content).decode()
            for name, content in encoded.items()
        }
