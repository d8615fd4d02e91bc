"""Every configuration of the preprocess job is one that the job takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from gan_lib.core import config
from jobs.preprocess import PreprocessJob

CONFIGURATIONS = sorted(Path("conf/preprocess").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_the_configuration_loads(path):
    assert config.load(PreprocessJob, path).output
