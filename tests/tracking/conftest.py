"""An empty store, which takes mlflow some seconds to make, once for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from gan_lib import tracking


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file that mlflow has made its tables in: copy it."""
    file = tmp_path_factory.mktemp("empty") / "mlflow.db"
    tracking.Store(f"sqlite:///{file}", f"sqlite:///{file}").client().search_experiments()
    return file
