"""Makes weights that others published a registered model, or what a training begins with.

python jobs/import_model.py --config conf/import_model/real_esrgan.yaml [--set file=RealESRGAN_x4plus.pth ...]

Needs no Spark. Nothing in the file is run. Exit codes: 0 done, 2 the file is not there, damaged, hostile or foreign, or
leaves something open that a setting must say.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence

from gan_lib import tracking
from gan_lib.core import config
from gan_lib.core.errors import run_job
from gan_lib.importing.settings import ImportSettings
from gan_lib.tracking import TrackingSettings


class ImportJob(ImportSettings):
    """An import, and where it is written down."""

    tracking: TrackingSettings = TrackingSettings()


def main(argv: Sequence[str] | None = None) -> None:
    """Read the file, and make of it what is asked for."""
    job = config.from_command_line(ImportJob, "Make published weights a model, or a training's beginning.", argv)
    from gan_lib.importing.published import import_published, tags_of  # which import torch
    from gan_lib.importing.start import write_start

    weights, imported = import_published(job)
    tags = tags_of(weights, imported)
    print(f"{weights.name} is {imported.format}")
    with tracking.run(job.tracking, "import_model", job.model_dump(exclude={"tracking"}), job.model_dump()) as run:
        run.set_tags(tags)
        if job.output is not None:
            imported.artifact.save(job.output)
            print(f"wrote the artifact {job.output}")
        if job.start is not None:
            write_start(imported.artifact.net, f"{weights.name} {weights.sha256}", job.start)
            print(f"training.init_from takes {job.start.folder}, for the net {job.start.net}")
        if job.model is not None:
            with tempfile.TemporaryDirectory() as folder:
                imported.artifact.save(folder)
                registered = tracking.register(run, folder, job.model.name, job.model.alias, tags)
            print(f"registered models:/{registered.name}/{registered.version}")


if __name__ == "__main__":
    run_job(main)
