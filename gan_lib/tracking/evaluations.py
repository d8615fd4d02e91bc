"""Metrics of an evaluation on the registered version that was measured, where whoever chooses a version looks."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from gan_lib.tracking.registry.model_card import LOGGED_MODEL_TAG, fitting_json
from gan_lib.tracking.registry.models import resolve
from gan_lib.tracking.runs import Run

EVALUATION = "gan_lib_evaluation"
"""Tag of a version: the metrics of its last evaluation, as JSON."""
EVALUATION_RUN = "gan_lib_evaluation_run"
"""Tag of a version: the MLflow run of that evaluation."""


def log_to_version(run: Run, uri: str, metrics: Mapping[str, float]) -> None:
    """Write ``metrics``, measured by ``run``, to ``models:/NAME/VERSION``: to its tags, and its LoggedModel if any.

    Raises:
        TrackingError: the registry refuses or is away, or the version is gone.
    """
    from mlflow.entities import Metric

    version = resolve(uri, run.address.settings)
    finite = {key: value for key, value in metrics.items() if math.isfinite(value)}
    store = run.address.store
    with store.explained(f"writing metrics to {version.name} {version.version}"):
        client = store.client()
        tags = client.get_model_version(version.name, version.version).tags
        client.set_model_version_tag(version.name, version.version, EVALUATION, fitting_json(finite))
        client.set_model_version_tag(version.name, version.version, EVALUATION_RUN, run.id)
        if model_id := tags.get(LOGGED_MODEL_TAG):
            now = int(time.time() * 1000)
            of_model = [Metric(key, value, now, 0, model_id=model_id) for key, value in finite.items()]
            client.log_batch(run.id, metrics=of_model)
