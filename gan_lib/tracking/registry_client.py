"""MLflow's client, made safe for several processes that write about one model at once. Imports mlflow at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

_ATTEMPTS = 5


class RegistryClient(MlflowClient):
    """An ``MlflowClient`` whose tags and aliases are set although another sets the same new one at the same moment.

    MLflow looks whether a tag exists and inserts it if not, so of two who do that at once its database refuses the
    second ("UNIQUE constraint failed", as BAD_REQUEST). Said again it is an update: the last one wins, as ever.
    """

    def set_registered_model_tag(self, name: str, key: str, value: Any) -> None:
        """Set a tag of a registered model."""
        write = super().set_registered_model_tag
        _until_it_is_an_update(lambda: write(name, key, value))

    def set_model_version_tag(
        self, name: str, version: Any = None, key: Any = None, value: Any = None, stage: Any = None
    ) -> None:
        """Set a tag of a version."""
        write = super().set_model_version_tag
        _until_it_is_an_update(lambda: write(name, version, key, value, stage))

    def set_registered_model_alias(self, name: str, alias: str, version: Any) -> None:
        """Let an alias name a version."""
        write = super().set_registered_model_alias
        _until_it_is_an_update(lambda: write(name, alias, version))


def _until_it_is_an_update(write: Callable[[], None]) -> None:
    for _again in range(_ATTEMPTS - 1):
        try:
            return write()
        except MlflowException as error:
            if error.error_code != "BAD_REQUEST":
                raise
    return write()
