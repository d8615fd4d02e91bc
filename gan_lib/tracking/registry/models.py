"""Artifacts in MLflow's registry: registered, found by name and alias, brought to disk."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from gan_lib.tracking.registry.logged_models import keep_model, link_version, log_metrics_of
from gan_lib.tracking.registry.model_card import DIGEST_TAG, LOGGED_MODEL_TAG, ModelCard
from gan_lib.tracking.runs import Run
from gan_lib.tracking.settings import TrackingSettings
from gan_lib.tracking.store import Store, TrackingError, store_of

if TYPE_CHECKING:
    from gan_lib.export.description import Description


class ModelVersion(NamedTuple):
    """One version of a registered model."""

    name: str
    version: str
    run_id: str | None


def register(
    run: Run, folder: str, name: str, alias: str | None = None, tags: Mapping[str, str] | None = None
) -> ModelVersion:
    """Save the artifact in ``folder`` (any store) to ``run`` and make it a new version of the model ``name``.

    Any artifact will do; its ports say which columns the model takes and gives, see
    :mod:`gan_lib.tracking.registry.model_files`. A run may register several models; one that it has registered before
    under this name stays the version that it is. What the version tells of itself is a :class:`ModelCard` of the run,
    and ``tags``, whose names must hold no dots.

    Raises:
        ArtifactError: ``folder`` holds no artifact.
        TrackingError: the registry refuses or is away.
    """
    from gan_lib.tracking.registry.model_files import copy_artifact  # which imports torch

    store = run.address.store
    client = store.client()
    with tempfile.TemporaryDirectory() as scratch, store.explained(f"registering {name}"):
        digest = copy_artifact(folder, Path(scratch))
        before = _registered_before(client, name, run.id, digest)
        version = before or _new_version(client, run.id, scratch, name, digest, tags or {})
        if alias is not None and not (before and _names_later_version(client, name, alias, version)):
            client.set_registered_model_alias(name, alias, version)
    return ModelVersion(name, version, run.id)


def _registered_before(client: Any, name: str, run_id: str, digest: str) -> str | None:
    """The version that this run made of the same artifact; None where it made none."""
    from mlflow.exceptions import MlflowException

    try:
        versions = client.search_model_versions(f"name='{name}'")
    except MlflowException as error:  # no such model: some registries say so, others give an empty list
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    for found in versions:
        # Unity Catalog leaves the tags out of what it finds
        if found.run_id == run_id and client.get_model_version(name, found.version).tags.get(DIGEST_TAG) == digest:
            return str(found.version)
    return None


def _new_version(client: Any, run_id: str, artifact: str, name: str, digest: str, own_tags: Mapping[str, str]) -> str:
    """Upload the artifact and register it, whole with all that it tells of itself."""
    from gan_lib.export.description import read_description
    from gan_lib.tracking.registry.model_files import save_model

    described = read_description(artifact)
    run = client.get_run(run_id)
    card = ModelCard.of(run)

    def save(path: Path, model_id: str | None) -> None:
        save_model(path, Path(artifact), described, run_id, model_id)

    kept = keep_model(client, run, name, digest, card, save)
    tags, ids = {**card.tags(digest), **own_tags}, {}
    if kept.model_id is not None:
        log_metrics_of(client, kept.model_id, card)
        tags, ids = {**tags, LOGGED_MODEL_TAG: kept.model_id}, {"model_id": kept.model_id}
    _ensure_registered(client, name, card, described)
    text = card.description(described)
    version = str(client.create_model_version(name, kept.source, run_id, tags=tags, description=text, **ids).version)
    if kept.model_id is not None:
        link_version(client, kept.model_id, name, version)
    return version


def _names_later_version(client: Any, name: str, alias: str, version: str) -> bool:
    """Whether another training took over ``alias``: one that is merely run again must not take it back."""
    named = client.get_registered_model(name).aliases.get(alias)
    return named is not None and int(named) >= int(version)


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
    registered = find(store, name)
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


def _ensure_registered(client: Any, name: str, card: ModelCard, described: Description) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description=card.purpose(described))
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"):
            raise


def find(store: Store, name: str) -> Any:
    """The registered model ``name``, as MLflow gives it.

    Raises:
        TrackingError: there is none (says which there are), or the registry is away.
    """
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
