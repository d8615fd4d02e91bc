"""What is written down in MLflow: runs, lineage, models. The only package that imports mlflow, and lazily."""

from gan_lib.tracking.registry.models import ModelVersion, download_model, register, resolve, set_alias
from gan_lib.tracking.runs import Run, RunAddress, resume, run
from gan_lib.tracking.settings import ModelSettings, TrackingSettings
from gan_lib.tracking.store import Store, TrackingError, first_use, store_of

__all__ = [
    "ModelSettings",
    "ModelVersion",
    "Run",
    "RunAddress",
    "Store",
    "TrackingError",
    "TrackingSettings",
    "download_model",
    "first_use",
    "register",
    "resolve",
    "resume",
    "run",
    "set_alias",
    "store_of",
]
