"""Artifacts in MLflow's registry: registered, found by name and alias, brought to disk."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from gan_lib.tracking.runs import Run
from gan_lib.tracking.settings import TrackingSettings
from gan_lib.tracking.store import Store, TrackingError, store_of


class ModelVersion(NamedTuple):
    """One version of a registered model."""

    name: str
    version: str
    run_id: str | None


def register(run: Run, folder: str, name: str, alias: str | None = None) -> ModelVersion:
    """Save the artifact in ``folder`` (any store) to ``run`` and make it a new version of the model ``name``.

    Any artifact will do; its ports say which columns the model takes and gives, see
    :mod:`gan_lib.tracking.model_files`. A run may register several models.

    Raises:
        ArtifactError: ``folder`` holds no artifact.
        TrackingError: the registry refuses or is away.
    """
    from gan_lib.tracking.model_files import save_model  # which imports torch

    store = run.address.store
    client = store.client()
    with tempfile.TemporaryDirectory() as scratch, store.explained(f"registering {name}"):
        digest = save_model(Path(scratch, "model"), folder)
        # by content: a training that goes on and registers again must not change the version before
        kept = f"models/{name}/{digest[:12]}"
        client.log_artifacts(run.id, str(Path(scratch, "model")), kept)
        _ensure_registered(client, name)
        source = f"{client.get_run(run.id).info.artifact_uri}/{kept}"
        version = str(client.create_model_version(name, source, run.id).version)
        if alias is not None:
            client.set_registered_model_alias(name, alias, version)
    return ModelVersion(name, version, run.id)


def set_alias(model: ModelVersion, alias: str, settings: TrackingSettings | None = None) -> None:
    """Let ``alias`` name this version from now on."""
    store = store_of(settings or TrackingSettings())
    with store.explained(f"giving {model.name} {model.version} the alias {alias}"):
        store.client().set_registered_model_alias(model.name, alias, model.version)


def resolve(uri: str, settings: TrackingSettings | None = None) -> ModelVersion:
    """Which version ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION`` means now.

    Raises:
        TrackingError: not of that form; no such model, alias or version (says which there are); the registry is away.
    """
    parts = re.fullmatch(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))", uri)
    if parts is None:
        raise TrackingError(f"{uri!r} is no model: write models:/NAME@ALIAS or models:/NAME/VERSION.")
    store = store_of(settings or TrackingSettings())
    store.require_answer()
    name, alias, version = parts["name"], parts["alias"], parts["version"]
    registered = _find(store, name)
    if alias is not None:
        version = registered.aliases.get(alias)
        if version is None:
            known = ", ".join(f"{a} (version {v})" for a, v in sorted(registered.aliases.items())) or "none"
            raise TrackingError(f"The model {name} at {store} has no alias {alias}; it has: {known}.")
    return _version(store, name, str(version))


def download_model(uri: str, settings: TrackingSettings | None = None, destination: str | None = None) -> str:
    """Bring a registered model to this machine and return the folder of its artifact.

    ``destination`` None: a new temporary folder, which the caller removes.

    Raises:
        TrackingError: as :func:`resolve`, or the model was not registered by this package.
    """
    import mlflow

    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # one line for each of 50 small files
    store = store_of(settings or TrackingSettings())
    found = resolve(uri, settings)
    with store.explained(f"downloading {uri}"):
        folder = mlflow.artifacts.download_artifacts(
            artifact_uri=_location(store, found),
            dst_path=destination or tempfile.mkdtemp(prefix="gan_lib-model-"),
            tracking_uri=store.uri,
            registry_uri=store.registry_uri,
        )
    flavor = yaml.safe_load((Path(folder) / "MLmodel").read_text())["flavors"].get("python_function", {})
    if not str(flavor.get("loader_module", "")).startswith("gan_lib."):
        raise TrackingError(f"{uri} was not registered by gan_lib and holds no artifact.")
    return str(Path(folder) / flavor["data"])


def _location(store: Store, model: ModelVersion) -> str:
    """Where the files lie. mlflow resolves models:/ with its global registry only, but where Databricks guards it."""
    if store.registry_uri.startswith("databricks"):
        return f"models:/{model.name}/{model.version}"
    return str(store.client().get_model_version_download_uri(model.name, model.version))


def _ensure_registered(client: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _find(store: Store, name: str) -> Any:
    from mlflow.exceptions import MlflowException

    client = store.client()
    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            with store.explained(f"looking for {name}"):
                raise
    with store.explained("listing models"):
        known = ", ".join(sorted(model.name for model in client.search_registered_models())) or "none"
    raise TrackingError(f"There is no model {name} in the registry at {store}; the models there: {known}.")


def _version(store: Store, name: str, version: str) -> ModelVersion:
    from mlflow.exceptions import MlflowException

    client = store.client()
    try:
        found = client.get_model_version(name, version)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            with store.explained(f"looking for {name} version {version}"):
                raise
        known = ", ".join(sorted((str(v.version) for v in client.search_model_versions(f"name='{name}'")), key=int))
        raise TrackingError(
            f"The model {name} at {store} has no version {version}; it has: {known or 'none'}."
        ) from None
    return ModelVersion(name, str(found.version), found.run_id or None)
