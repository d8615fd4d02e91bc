"""One MLflow run, written from the driver and from rank 0 at once.

Metrics, samples and a rank's tags go through a spool file: logging one never waits for a server, and a server that is
away, or a process that is killed, loses none. Everything else (parameters, tags, texts, datasets) is written at once
and raises.
Passwords in URLs are cut out of all of it.
Only client calls are used: mlflow's fluent functions keep global state and end a run that another process still writes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from gan_lib.core import storage
from gan_lib.core.images import encode_png
from gan_lib.tracking.credentials import all_without_credentials, without_credentials
from gan_lib.tracking.lifecycle import end_run, open_pipeline, open_run
from gan_lib.tracking.settings import TrackingSettings
from gan_lib.tracking.spool import Entry, Refused, Spool
from gan_lib.tracking.store import Store, TrackingError, store_of
from gan_lib.tracking.system import SystemMonitor

logger = logging.getLogger(__name__)

_LONGEST_PARAMETER = 500  # characters: the shortest limit among mlflow's stores
_PARAMETERS_A_CALL = 100
_FINAL_REFUSALS = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")


@dataclass(frozen=True)
class RunAddress:
    """All that another process needs to write to a run; plain values, so it travels to executors."""

    run_id: str
    store: Store
    spool_folder: str
    settings: TrackingSettings


class Run:
    """A run that is being written. Close it to deliver what is still in the spool."""

    def __init__(self, address: RunAddress, writer: str) -> None:
        """``writer`` names the process's spool file: two processes must not share one."""
        self.address = address
        self._folder = Path(address.spool_folder) / address.run_id
        self._images = 0
        self._spool = Spool(self._folder / f"{writer}.jsonl", self._deliver, address.settings.interval)

    @property
    def id(self) -> str:
        """The run's id in MLflow."""
        return self.address.run_id

    def log_metrics(self, metrics: Mapping[str, float], images: int = 0) -> None:
        """Log numbers at ``images`` images seen. Returns at once."""
        self._images = max(self._images, images)
        now = int(time.time() * 1000)
        entries = [{"metric": _legal(k), "value": float(v), "time": now, "step": images} for k, v in metrics.items()]
        self._spool.put(*entries)

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run. Returns at once; :meth:`set_tags` waits for the server."""
        self._spool.put(*({"tag": key, "value": without_credentials(value)} for key, value in tags.items()))

    def log_image(self, name: str, image: np.ndarray, images: int = 0) -> None:
        """Log an image, H x W x 3 or H x W uint8, as ``samples/NAME/IMAGES.png``.

        Returns once it is on the local disk.
        """
        self.log_file(name, encode_png(image.reshape(*image.shape[:2], -1)), ".png", images)

    def log_file(self, name: str, content: bytes, suffix: str, images: int = 0) -> None:
        """Log the content of a file as ``samples/NAME/IMAGES`` and ``suffix``, such as ".wav" or ".txt".

        Returns once it is on the local disk.
        """
        path = self._folder / "files" / f"{_legal(name).replace('/', '_')}-{images:012d}{suffix}"
        storage.write_atomic(str(path), content)
        self._spool.put({"file": str(path), "as": f"samples/{_legal(name)}/{images:012d}{suffix}"})

    def log_artifact(self, path: str, folder: str | None = None) -> None:
        """Upload a local file or folder, below ``folder`` of the run's artifacts."""
        client = self.address.store.client()
        upload = client.log_artifacts if Path(path).is_dir() else client.log_artifact
        with self.address.store.explained(f"uploading {path}"):
            upload(self.id, path, folder)

    def log_text(self, text: str, name: str) -> None:
        """Upload ``text`` as the artifact ``name``, at once."""
        with self.address.store.explained(f"uploading {name}"):
            self.address.store.client().log_text(self.id, text, name)

    def log_dataset(self, url: str, digest: str, role: str, name: str | None = None, **profile: Any) -> None:
        """Log that the dataset at ``url`` was read (or written) as ``role``, such as "training".

        ``digest`` is the dataset's own fingerprint (mlflow takes 36 characters: a longer one is hashed);
        ``profile`` holds what is known of it, such as ``rows=1200``.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source_type = "local" if storage.is_local(url) else url.partition("://")[0]
        url = without_credentials(url)
        short = digest if len(digest) <= 36 else hashlib.sha256(digest.encode()).hexdigest()[:36]
        dataset = Dataset(
            name=name or url.rstrip("/").rpartition("/")[2] or url,
            digest=short,
            source_type=source_type,
            source=json.dumps({"uri": url}),
            profile=json.dumps(profile) if profile else None,
        )
        with self.address.store.explained(f"logging the dataset {url}"):
            tag = InputTag("mlflow.data.context", role)
            self.address.store.client().log_inputs(self.id, [DatasetInput(dataset, [tag])])

    def log_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Log (nested) settings by their dotted keys.

        MLflow never changes a parameter. Where a run goes on with another value, the new one becomes the tag
        ``changed.KEY``.
        """
        from mlflow.entities import Param, RunTag

        client = self.address.store.client()
        flat = {key: without_credentials(str(value))[:_LONGEST_PARAMETER] for key, value in flatten(parameters)}
        with self.address.store.explained("logging parameters"):
            known = client.get_run(self.id).data.params
            new = [Param(key, value) for key, value in flat.items() if key not in known]
            changed = [RunTag(f"changed.{key}", value) for key, value in flat.items() if known.get(key, value) != value]
            for start in range(0, len(new), _PARAMETERS_A_CALL):
                client.log_batch(self.id, params=new[start : start + _PARAMETERS_A_CALL])
            client.log_batch(self.id, tags=changed)

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags of the run."""
        from mlflow.entities import RunTag

        written = [RunTag(key, without_credentials(str(value))) for key, value in tags.items()]
        with self.address.store.explained("setting tags"):
            self.address.store.client().log_batch(self.id, tags=written)

    @contextmanager
    def system_metrics(self) -> Iterator[None]:
        """Log how busy this machine is for as long as the block runs."""
        interval = self.address.settings.system_interval
        monitor = SystemMonitor(lambda found: self.log_metrics(found, self._images), interval)
        try:
            yield
        finally:
            monitor.stop()

    def close(self) -> None:
        """Deliver what is in the spool, or say where it waits for the next process that writes this run."""
        left = self._spool.close(self.address.settings.timeout)
        if left:
            logger.warning("%s entries of run %s did not reach MLflow; they wait in %s.", left, self.id, self._folder)

    def _deliver(self, entries: Sequence[Entry]) -> None:
        from mlflow.entities import Metric, RunTag
        from mlflow.exceptions import MlflowException

        client = self.address.store.client()
        metrics = [Metric(e["metric"], e["value"], e["time"], e["step"]) for e in entries if "metric" in e]
        tags = [RunTag(e["tag"], e["value"]) for e in entries if "tag" in e]
        try:
            if metrics or tags:
                client.log_batch(self.id, metrics=metrics, tags=tags)
            for entry in entries:
                if "file" in entry:
                    _deliver_file(client, self.id, Path(entry["file"]), entry["as"])
        except MlflowException as error:
            if error.error_code in _FINAL_REFUSALS:
                raise Refused(str(error)) from error
            raise


def _deliver_file(client: Any, run_id: str, path: Path, artifact: str) -> None:
    """Upload and remove; a file that is gone was uploaded before a crash."""
    if not path.exists():
        return
    folder, _, name = artifact.rpartition("/")
    with tempfile.TemporaryDirectory() as scratch:  # the artifact takes the file's name
        renamed = Path(scratch) / name
        renamed.write_bytes(path.read_bytes())
        client.log_artifact(run_id, str(renamed), folder)
    path.unlink()


@contextmanager
def run(
    settings: TrackingSettings,
    job: str,
    parameters: Mapping[str, Any],
    config: Mapping[str, Any] | None = None,
    keep_in: str | None = None,
) -> Iterator[Run]:
    """Open the run of a job, and end it as finished, failed or killed.

    ``keep_in`` is a folder (any store) that remembers the run: the next call with it goes on with the same run.
    ``config`` holds all settings as they are in force, overrides and defaults included: the artifact ``config.yaml``.

    Raises:
        TrackingError: the store cannot be reached, or refuses.
    """
    store = store_of(settings)
    store.require_answer()
    spools = keep_in if keep_in and storage.is_local(keep_in) else tempfile.gettempdir()
    with store.explained(f"opening a run of experiment {settings.experiment}"):
        parent = open_pipeline(store, settings)
        run_id = open_run(store, settings, job, parent, keep_in)
    opened = Run(RunAddress(run_id, store, storage.join(storage.absolute(spools), "tracking"), settings), "driver")
    status = "FAILED"
    try:
        opened.log_parameters(parameters)
        if config is not None:
            opened.log_text(yaml.safe_dump(all_without_credentials(config), sort_keys=False), "config.yaml")
        yield opened
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        opened.close()
        for ended in filter(None, (run_id, parent)):
            end_run(store, ended, status)


@contextmanager
def resume(address: RunAddress) -> Iterator[Run]:
    """Write to a run that the driver opened, from a rank; it stays open when the block ends.

    Raises:
        TrackingError: the store is an SQLite file that is not on this machine.
    """
    _scheme, sqlite, path = address.store.uri.partition("sqlite:///")
    if sqlite and not Path(path).exists():
        raise TrackingError(
            f"The tracking store {address.store} is a file of the driver's machine, and rank 0 runs on another: "
            "set tracking.uri to an MLflow server that both reach."
        )
    opened = Run(address, "rank0")
    try:
        with opened.system_metrics():
            yield opened
    finally:
        opened.close()


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested mappings -> (dotted key, value)."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _legal(name: str) -> str:
    """``name`` with what mlflow refuses in keys replaced by "_"."""
    return re.sub(r"[^\w\-. :/]", "_", name)
