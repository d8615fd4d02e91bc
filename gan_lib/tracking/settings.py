"""Where runs are written, and under which name."""

from __future__ import annotations

from pydantic import Field

from gan_lib.core.config import Settings


class TrackingSettings(Settings):
    """The MLflow side of a job."""

    experiment: str = "gan_lib"
    """Name of the experiment that holds the run; made where there is none."""
    uri: str | None = Field(default=None, repr=False)
    """Tracking store; a password in it is never written down. None: MLFLOW_TRACKING_URI, or else
    ``sqlite:///mlflow.db`` in the working directory."""
    registry_uri: str | None = Field(default=None, repr=False)
    """Model registry. None: MLFLOW_REGISTRY_URI, or else the tracking store."""
    pipeline: str | None = Field(default=None, pattern=r'^[^"\\]+$')
    """Runs of one pipeline hang below one parent run of this name; None: a run by itself."""
    run_name: str | None = None
    """None: the job's name."""
    interval: float = Field(default=2.0, gt=0)
    """Seconds between two deliveries of metrics to the server."""
    timeout: float = Field(default=300.0, gt=0)
    """Seconds that the end of a job waits for a server that is away; what is left then stays in the spool file."""
    system_interval: float = Field(default=10.0, gt=0)
    """Seconds between two samples of processor, memory and GPU use."""


class ModelSettings(Settings):
    """Under which name a trained net is registered."""

    name: str
    """Of the model in the registry; where a recipe exports several nets, the further ones are called NAME-EXPORT."""
    alias: str | None = "challenger"
    """What ``models:/NAME@ALIAS`` means from then on; None: only a new version. jobs/promote.py makes a challenger the
    champion."""
