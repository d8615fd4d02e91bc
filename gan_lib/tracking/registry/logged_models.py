"""The files of a model in MLflow: a LoggedModel with metrics of its own; before MLflow 3 they are files of the run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from gan_lib.tracking.registry.model_card import DIGEST_TAG, ModelCard

if TYPE_CHECKING:
    from mlflow import MlflowClient

SaveModel = Callable[[Path, "str | None"], None]
"""(where to, id of the LoggedModel) writes the MLflow model."""


class Kept(NamedTuple):
    """Where the files of a model lie."""

    source: str
    model_id: str | None
    """Of the LoggedModel; None where the server knows none."""


def keep_model(client: MlflowClient, run: Any, name: str, digest: str, card: ModelCard, save: SaveModel) -> Kept:
    """Upload what ``save`` writes, as a model of the MLflow run ``run``."""
    logged = _create(client, run, name, digest, card)
    with TemporaryDirectory() as scratch:
        folder = Path(scratch, "model")
        save(folder, logged.model_id if logged is not None else None)
        if logged is None:
            # by content: a training that goes on and registers again must not change the version before
            path = f"models/{name}/{digest[:12]}"
            client.log_artifacts(run.info.run_id, str(folder), path)
            return Kept(f"{run.info.artifact_uri}/{path}", None)
        _finish(client, run, logged.model_id, folder)
    return Kept(str(logged.artifact_location), str(logged.model_id))


def _create(client: MlflowClient, run: Any, name: str, digest: str, card: ModelCard) -> Any:
    """A LoggedModel that is not ready yet; None where the client or the server are older than MLflow 3."""
    from mlflow.exceptions import MlflowException

    if not hasattr(client, "create_logged_model"):
        return None
    try:
        return client.create_logged_model(
            run.info.experiment_id,
            name=re.sub(r"""[/:.%"']""", "_", name),  # which mlflow refuses in it
            source_run_id=run.info.run_id,
            tags={DIGEST_TAG: digest},
            params=dict(card.parameters),
            model_type="generator",
        )
    except MlflowException as error:
        if error.error_code != "ENDPOINT_NOT_FOUND":
            raise
        return None


def _finish(client: MlflowClient, run: Any, model_id: str, folder: Path) -> None:
    """Upload the files, and say that the model is whole, or that it never will be."""
    from mlflow.entities import LoggedModelOutput

    try:
        client.log_model_artifacts(model_id, str(folder))
        client.log_outputs(run.info.run_id, [LoggedModelOutput(model_id, step=0)])
    except BaseException:
        client.finalize_logged_model(model_id, "FAILED")
        raise
    client.finalize_logged_model(model_id, "READY")


def log_metrics_of(client: MlflowClient, model_id: str, card: ModelCard) -> None:
    """Give a LoggedModel the last value of each of its run's metrics."""
    from mlflow.entities import Metric

    last = (client.get_metric_history(card.run_id, key)[-1] for key in card.metrics)
    metrics = [Metric(one.key, one.value, one.timestamp, one.step, model_id=model_id) for one in last]
    if metrics:
        client.log_batch(card.run_id, metrics=metrics)


def link_version(client: MlflowClient, model_id: str, name: str, version: str) -> None:
    """Let MLflow's page of a LoggedModel show which version it is registered as."""
    client.set_logged_model_tags(model_id, {"mlflow.modelVersions": json.dumps([{"name": name, "version": version}])})
