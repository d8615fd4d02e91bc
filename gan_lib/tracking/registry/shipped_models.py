"""A net that the package ships as a model of MLflow's registry, for whoever serves by it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from gan_lib.shipped import nets
from gan_lib.tracking.registry.models import ModelVersion, register
from gan_lib.tracking.runs import run
from gan_lib.tracking.settings import TrackingSettings


def register_shipped(
    net: str, name: str = "enlarger", alias: str | None = "champion", settings: TrackingSettings | None = None
) -> ModelVersion:
    """Make the shipped net ``net`` the next version of the model ``name``, a pyfunc as all of them are.

    How it was made stands in its run, as ``card.json`` tells.

    Raises:
        UserError: no such net is shipped; says which are.
        TrackingError: the registry refuses or is away.
    """
    files, card = nets.files_of(net), nets.card_of(net)
    with tempfile.TemporaryDirectory(prefix="gan_lib-shipped-") as folder:
        for file, content in files.items():
            Path(folder, file).write_bytes(content)
        with run(settings or TrackingSettings(), "register", {"net": f"{nets.SCHEME}{net}"}, card) as opened:
            return register(opened, folder, name, alias)
