"""A store, and on it all that the five jobs are given: photos, a dataset, and registered models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage.data
from kinds_of_store import Store

from gan_lib.core import storage
from gan_lib.core.images import encode_png
from gan_lib.tracking import TrackingSettings
from tests.scoring.generation.generators import dcgan, registered
from tests.scoring.scoring_nets import register_enlarger
from tests.small_dataset import publish_patches

IMAGES = 12
BROKEN = "broken.png"
NOISE = "models:/noise@champion"


@dataclass(frozen=True)
class Site:
    """A store, and this machine's folder for what is not on it: MLflow's database and the jobs' logs."""

    store: Store
    folder: Path

    def url(self, *parts: str) -> str:
        """Of something on the store."""
        return storage.join(self.store.url, *parts)

    @property
    def tracking(self) -> TrackingSettings:
        """Where models are registered, and runs are written down."""
        return TrackingSettings(uri=f"sqlite:///{self.folder}/mlflow.db", experiment="stores")


def bring_material(site: Site) -> None:
    """Write what the jobs are given to the store."""
    photo = skimage.data.astronaut()
    for number in range(IMAGES):
        top, left = 40 * (number // 4), 100 * (number % 4)
        for folder, side in (("corpus", 64), ("held-out", 48), ("small", 24)):
            image = np.ascontiguousarray(photo[top : top + side, left : left + side + number])
            if folder != "held-out" or number < 5:
                storage.write_atomic(site.url(folder, f"{number % 3}", f"{number:02d}.png"), encode_png(image))
    storage.write_atomic(site.url("corpus", "again.png"), storage.read_bytes(site.url("corpus", "0", "00.png")))
    for folder in ("corpus", "small"):
        storage.write_atomic(site.url(folder, BROKEN), b"no image")
    patches = site.folder / "patches"
    patches.mkdir()
    publish_patches(patches)
    for file in patches.iterdir():
        storage.write_atomic(site.url("patches", file.name), file.read_bytes())


def register_models(site: Site) -> None:
    """Put the models that jobs need, ``URI`` and ``NOISE``, into the registry."""
    register_enlarger(site.tracking, site.folder)
    registered(dcgan(size=16), "noise", site.folder)  # in the same database
