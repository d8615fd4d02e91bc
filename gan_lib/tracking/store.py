"""Which MLflow store is meant, and what is said when it cannot be reached. Imports mlflow only for a client."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gan_lib.core.errors import UserError
from gan_lib.tracking.credentials import without_credentials
from gan_lib.tracking.settings import TrackingSettings

if TYPE_CHECKING:
    from mlflow import MlflowClient

# mlflow reports its use from a thread that sets and deletes a variable of the environment. A request that looks for
# proxies there at that moment fails, and the job with it. Whoever wants the reports sets this to false.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


class TrackingError(UserError):
    """MLflow cannot do what was asked; the message says where and why."""


@dataclass(frozen=True)
class Store:
    """A tracking store and a model registry, as URIs that mean the same in every process.

    The URIs may hold a password: print the store itself, which shows none.
    """

    uri: str = field(repr=False)
    registry_uri: str = field(repr=False)

    def client(self) -> MlflowClient:
        """A client of both that leaves mlflow's global state alone."""
        from gan_lib.tracking.registry_client import RegistryClient

        for chatty in ("alembic", "mlflow.store.db.utils"):  # twenty lines for each new SQLite file
            logging.getLogger(chatty).setLevel(logging.WARNING)
        return RegistryClient(tracking_uri=self.uri, registry_uri=self.registry_uri)

    @contextmanager
    def explained(self, doing: str) -> Iterator[None]:
        """Turn mlflow's exceptions into one sentence that names the store and what was being done, and no password.

        Raises:
            TrackingError: mlflow raised.
        """
        from mlflow.exceptions import MlflowException

        try:
            yield
        except MlflowException as error:
            reason = without_credentials(str(error).splitlines()[0]).rstrip(".")
            doing = without_credentials(doing)
            # from None: a traceback would print mlflow's own message, and with it the password
            raise TrackingError(f"MLflow at {self} failed while {doing}: {reason}.") from None

    def require_answer(self) -> None:
        """Check that something listens where the tracking server should be.

        Raises:
            TrackingError: nothing does.
        """
        parts = urlsplit(self.uri)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            return
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
            socket.create_connection((parts.hostname, port), timeout=10).close()
        except OSError as error:
            raise TrackingError(
                f"The MLflow server {self} does not answer ({error}): "
                "start it, or set tracking.uri or MLFLOW_TRACKING_URI."
            ) from None

    def __str__(self) -> str:
        """The tracking URI without user and password."""
        return without_credentials(self.uri)


def first_use(settings: TrackingSettings) -> None:
    """What MLflow's first use costs: seconds of imports, and of making the tables of a new SQLite file.

    Done ahead, so no server is asked: one that is away would keep us waiting.
    """
    store = store_of(settings)
    client = store.client()
    if urlsplit(store.uri).scheme not in ("http", "https"):
        client.get_experiment_by_name(settings.experiment)


def store_of(settings: TrackingSettings) -> Store:
    """The store that ``settings`` or the environment names, else an SQLite file in the working directory."""
    uri = settings.uri or os.environ.get("MLFLOW_TRACKING_URI") or _set_by_the_platform() or "sqlite:///mlflow.db"
    uri = _absolute(uri)
    registry_uri = settings.registry_uri or os.environ.get("MLFLOW_REGISTRY_URI")
    return Store(uri, _absolute(registry_uri) if registry_uri else uri)


def _set_by_the_platform() -> str | None:
    if "DATABRICKS_RUNTIME_VERSION" not in os.environ:
        return None
    import mlflow

    return str(mlflow.get_tracking_uri())


def _absolute(uri: str) -> str:
    """A relative SQLite path means another file in another process's working directory: say which one is meant."""
    scheme, found, path = uri.partition("sqlite:///")
    return f"sqlite:///{os.path.abspath(path)}" if found and not scheme and path else uri
