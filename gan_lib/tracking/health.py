"""Whether MLflow would do what a job asks of it, found out by asking for something small."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from urllib.parse import urlsplit

from gan_lib.core.errors import UserError
from gan_lib.tracking.registry.models import resolve
from gan_lib.tracking.settings import TrackingSettings
from gan_lib.tracking.store import Store, store_of


def tracking_problems(settings: TrackingSettings, models: Sequence[str] = ()) -> list[str]:
    """Why the tracking store, the registry or one of the registered ``models`` cannot be had; a sentence each."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    store = store_of(settings)
    registry = Store(store.registry_uri, store.registry_uri)
    problems: list[str] = []
    if not _is_missing_file(store.uri):
        problems += _objection(partial(_list_experiments, store))
    if registry.uri != store.uri:
        try:
            problems += (f"tracking.registry_uri: {said}" for said in _objection(partial(_list_models, registry)))
        except Exception as error:  # what an unknown scheme leads mlflow to
            problems.append(f"tracking.registry_uri: {str(error).splitlines()[0] or type(error).__name__}.")
    elif not problems and not _is_missing_file(registry.uri):
        problems += _objection(partial(_list_models, registry))
    if not problems:
        for uri in models:
            problems += _objection(partial(resolve, uri, settings))
    return problems


def server_address(settings: TrackingSettings) -> tuple[str, int] | None:
    """Host and port of the tracking server; None where the store is none."""
    parts = urlsplit(store_of(settings).uri)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def _objection(ask: Callable[[], object]) -> list[str]:
    try:
        ask()
    except UserError as error:
        return [str(error)]
    return []


def _list_experiments(store: Store) -> None:
    store.require_answer()
    with store.explained("listing experiments"):
        store.client().search_experiments(max_results=1)


def _list_models(registry: Store) -> None:
    registry.require_answer()
    with registry.explained("listing registered models"):
        registry.client().search_registered_models(max_results=1)


def _is_missing_file(uri: str) -> bool:
    """Whether ``uri`` is that of an SQLite file that MLflow has yet to make: to ask would make it."""
    return uri.startswith("sqlite:///") and not os.path.exists(uri.removeprefix("sqlite:///"))
