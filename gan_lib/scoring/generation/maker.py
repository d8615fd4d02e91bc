"""Rows in, samples out, in their order: what the job, the SQL function and the served model have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from gan_lib.export.artifact import Artifact
from gan_lib.scoring.generation.inputs import InputReader
from gan_lib.scoring.generation.outputs.sample_formats import formats_of
from gan_lib.scoring.generation.predictor import SamplePredictor
from gan_lib.scoring.generation.rows import RowRejected, Sample, SampleRow
from gan_lib.scoring.settings import EncodingSettings


class SampleMaker:
    """Makes samples by ``artifact`` on ``device``, at most ``batch_size`` at once."""

    def __init__(
        self, artifact: Artifact, device: torch.device, batch_size: int = 64, truncation: float | None = None
    ) -> None:
        """
        Raises:
            UserError: the artifact takes or gives what :mod:`gan_lib.scoring.generation` does not know.
        """
        self._reader = InputReader(artifact.inputs, truncation)
        self._formats = formats_of(artifact.outputs, EncodingSettings())
        self._predictor = SamplePredictor(artifact, device, batch_size)

    def run(
        self, rows: Iterable[SampleRow], check: Callable[[SampleRow], object] = lambda row: None
    ) -> Iterator[Sample]:
        """A sample for each row, in their order; a row that cannot be used has its reason.

        ``check`` may raise :class:`RowRejected` for more than the model asks of a row.
        """
        waiting = iter(rows)
        while batch := list(islice(waiting, self._predictor.batch_size)):
            yield from self._make([self._read(row, check) for row in batch])

    def _read(self, row: SampleRow, check: Callable[[SampleRow], object]) -> Sample:
        try:
            check(row)
            return Sample(self._reader.read(row))
        except RowRejected as rejection:
            return Sample(row, reason=rejection.reason, message=rejection.message)

    def _make(self, batch: list[Sample]) -> Iterator[Sample]:
        usable = [sample.row for sample in batch if sample.reason is None]
        outputs = self._predictor.run(self._reader.batch(usable)) if usable else {}
        number = 0
        for sample in batch:
            if sample.reason is None:
                yield self._sample(sample.row, {name: values[number] for name, values in outputs.items()})
                number += 1
            else:
                yield sample

    def _sample(self, row: SampleRow, values: dict[str, Tensor]) -> Sample:
        broken = [name for name, value in values.items() if not torch.isfinite(value).all()]
        if broken:
            return Sample(row, reason="not-finite", message=f"the model's {broken[0]} holds values that are not finite")
        arrays: dict[str, np.ndarray] = {name: self._formats[name].array(value) for name, value in values.items()}
        return Sample(row, arrays)
