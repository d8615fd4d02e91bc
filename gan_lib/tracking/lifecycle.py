"""How runs begin, are found again and end in MLflow: what :mod:`gan_lib.tracking.runs` does around the writing."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from gan_lib.core import storage
from gan_lib.tracking.code_version import code_version
from gan_lib.tracking.credentials import without_credentials
from gan_lib.tracking.settings import TrackingSettings
from gan_lib.tracking.store import Store, TrackingError

logger = logging.getLogger(__name__)

_RUN_FILE = "mlflow_run.json"


def open_run(store: Store, settings: TrackingSettings, job: str, parent: str | None, keep_in: str | None) -> str:
    """The id of the run to write: the one remembered in ``keep_in`` where MLflow still has it, else a new one."""
    client = store.client()
    kept = _remembered(store, keep_in)
    if kept is not None:
        client.update_run(kept, status="RUNNING")
        client.set_tag(kept, "gan_lib.continued_at", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
        return kept
    tags = {"gan_lib.job": job, "mlflow.source.name": job, "mlflow.source.type": "JOB", **code_version()}
    if parent is not None:
        tags["mlflow.parentRunId"] = parent
    created = client.create_run(_experiment(client, settings.experiment), tags=tags, run_name=settings.run_name or job)
    run_id = str(created.info.run_id)
    if keep_in is not None:
        storage.write_atomic(storage.join(keep_in, _RUN_FILE), json.dumps({"run_id": run_id}).encode())
    return run_id


def _remembered(store: Store, keep_in: str | None) -> str | None:
    from mlflow.exceptions import MlflowException

    if keep_in is None or not storage.exists(storage.join(keep_in, _RUN_FILE)):
        return None
    try:
        run_id = str(json.loads(storage.read_bytes(storage.join(keep_in, _RUN_FILE)))["run_id"])
    except ValueError:  # half of it: its writer was killed, where renaming is not atomic
        return None
    try:
        found = store.client().get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    return run_id if found.info.lifecycle_stage == "active" else None


def open_pipeline(store: Store, settings: TrackingSettings) -> str | None:
    """The id of the parent run that the runs of this pipeline share; made by the first of them."""
    if settings.pipeline is None:
        return None
    client = store.client()
    experiment = _experiment(client, settings.experiment)
    found = client.search_runs(
        [experiment],
        f'tags.`gan_lib.pipeline` = "{settings.pipeline}"',
        order_by=["attributes.start_time ASC"],
        max_results=1,
    )
    if found:
        client.update_run(found[0].info.run_id, status="RUNNING")
        return str(found[0].info.run_id)
    tags = {"gan_lib.pipeline": settings.pipeline, "gan_lib.job": "pipeline"}
    return str(client.create_run(experiment, tags=tags, run_name=settings.pipeline).info.run_id)


def _experiment(client: Any, name: str) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException:  # another job was faster
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise TrackingError(f"The experiment {name} was deleted in MLflow: restore it, or set tracking.experiment.")
    return str(found.experiment_id)


def end_run(store: Store, run_id: str, status: str) -> None:
    """Record how a run ended. The job's own outcome must not change because MLflow is away, so this only warns."""
    try:
        store.client().set_terminated(run_id, status)
    except Exception as error:
        logger.warning("The end of run %s could not be recorded: %s", run_id, without_credentials(str(error)))
