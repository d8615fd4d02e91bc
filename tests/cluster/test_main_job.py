"""Photos to enlarged photos by the four jobs, submitted to a real standalone cluster: two ranks in two executors."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gan_lib.core.images import decode
from gan_lib.export.artifact import Artifact

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

PHOTOS = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "motorcycle_left.png", "camera.png")
HELD_OUT = ("hubble_deep_field.jpg", "ihc.png")


@dataclass(frozen=True)
class MainJob:
    """A folder in which all four jobs have run, and what they printed."""

    folder: Path
    output: dict[str, str]


def crop_of(source: Path, target: Path, side: int) -> None:
    target.parent.mkdir(exist_ok=True)
    Image.open(source).convert("RGB").crop((40, 40, 40 + side, 40 + side)).save(target.with_suffix(".png"))


@pytest.fixture(scope="module")
def main_job(standalone_cluster, photos: Path, repository: Path, tmp_path_factory) -> MainJob:
    folder = tmp_path_factory.mktemp("main_job")
    for name in PHOTOS:
        crop_of(photos / name, folder / "train" / name, 224)
    for name in HELD_OUT:
        crop_of(photos / name, folder / "held-out" / name, 96)
    (folder / "train" / "broken.jpg").write_bytes((photos / "rocket.jpg").read_bytes()[:2000])
    settings = {
        "preprocess": [f"source.path={folder}/train", f"output={folder}/dataset", "patches.count=8", "split.salt=x"],
        "train": [
            f"data.url={folder}/dataset",
            f"checkpoint.folder={folder}/training",
            "training.images=128",
            "training.batch_size=8",
            "launch.processes=2",
            "launch.local=false",
            "model.name=cluster_test",
        ],
        "evaluate": [
            f"images={folder}/held-out",
            "models={net: models:/cluster_test@challenger}",
            f"output={folder}/evaluation",
        ],
        "score": [
            "model=models:/cluster_test@challenger",
            f"input.folder={folder}/held-out",
            f"output.url={folder}/enlarged",
        ],
    }
    config = {"train": "srresnet"}
    output = {}
    for job, overrides in settings.items():
        flags = [part for override in [*overrides, "tracking.pipeline=cluster"] for part in ("--set", override)]
        path = repository / "conf" / job / f"{config.get(job, 'demo')}.yaml"
        uri = f"sqlite:///{folder}/mlflow.db"
        done = standalone_cluster.submit(
            repository / "jobs" / f"{job}.py", "--config", path, *flags, MLFLOW_TRACKING_URI=uri
        )
        assert done.returncode == 0, (
            f"{job} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        )
        output[job] = done.stdout + done.stderr
    return MainJob(folder, output)


def test_the_broken_image_is_named_and_the_others_are_published(main_job: MainJob):
    manifest = json.loads((main_job.folder / "dataset" / "versions" / "000001" / "manifest.json").read_text())
    assert manifest["counts"] == {"read": 7, "written": 6, "rejected": 1, "duplicate": 0}
    assert list(manifest["rejects"]) == ["corrupt"]
    assert sum(split["rows"] for split in manifest["splits"].values()) > 0


def test_stock_petastorm_reads_every_published_row(main_job: MainJob):
    petastorm = pytest.importorskip("petastorm", reason="stock Petastorm is not in this environment")
    version = main_job.folder / "dataset" / "versions" / "000001"
    manifest = json.loads((version / "manifest.json").read_text())
    for name, split in manifest["splits"].items():
        stored = pq.read_table(version / name).column("image").to_pylist()
        with petastorm.make_reader(f"file://{version / name}", num_epochs=1, reader_pool_type="dummy") as reader:
            read = sorted(row.image.tobytes() for row in reader)
        assert len(read) == split["rows"]
        assert read == sorted(decode(content).tobytes() for content in stored)


def test_two_ranks_on_two_executors_made_one_generator(main_job: MainJob):
    # each executor has one core, so two processes are two executors; the drift compares the weights of all ranks
    assert "Started distributed training with 2 executor processes" in main_job.output["train"]
    assert '"rank_drift": 0.0' in main_job.output["train"]
    artifact = Artifact.load(main_job.folder / "training" / "export" / "generator")
    assert artifact.scale == 4


def test_the_evaluation_has_figures_for_every_method_and_a_comparison_grid(main_job: MainJob):
    summary = json.loads((main_job.folder / "evaluation" / "summary.json").read_text())
    assert summary["samples"] == len(HELD_OUT)
    assert set(summary["means"]) == {"bicubic", "net"}
    assert all(10 < mean["psnr"] < 60 and 0 < mean["ssim"] <= 1 for mean in summary["means"].values())
    grid = np.asarray(Image.open(main_job.folder / "evaluation" / "comparison_grid.png"))
    assert grid.shape[1] > 3 * 96 and grid.std() > 10


def test_every_image_is_enlarged_under_its_own_name(main_job: MainJob):
    artifact = Artifact.load(main_job.folder / "training" / "export" / "generator")
    for path in (main_job.folder / "held-out").iterdir():
        enlarged = np.asarray(Image.open(main_job.folder / "enlarged" / path.name))
        assert enlarged.shape == (384, 384, 3)
        low = np.asarray(Image.open(path))
        import torch

        whole = artifact.translate(torch.from_numpy(low.copy()).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()
        assert (np.abs(enlarged.astype(int) - whole) > 1).sum() == 0


def test_the_registered_model_enlarges_in_a_process_without_our_package(main_job: MainJob, tmp_path: Path):
    """The stranger has the packages that the model asks for, but not gan_lib: the model brings what it needs."""
    image = next((main_job.folder / "held-out").iterdir())
    program = f"""
import sys
sys.path[:] = [p for p in sys.path if p and p != {str(Path(__file__).parents[2])!r}]
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in repr(f).lower()]
try:
    import gan_lib; raise SystemExit("gan_lib is still importable")
except ImportError: pass
import base64, io, mlflow, pandas as pd
from PIL import Image
model = mlflow.pyfunc.load_model("models:/cluster_test@challenger")
answer = model.predict(pd.DataFrame({{"content": [open({str(image)!r}, "rb").read()]}}))
print(Image.open(io.BytesIO(base64.b64decode(answer.iloc[0, 0]))).size)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={
            "PATH": "/usr/bin:/bin",
            "MLFLOW_TRACKING_URI": f"sqlite:///{main_job.folder}/mlflow.db",
            "HOME": str(tmp_path),
        },
    )
    assert "(384, 384)" in done.stdout, done.stdout + done.stderr


def test_all_runs_hang_below_one_parent(main_job: MainJob):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{main_job.folder}/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments)
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert len(children) == 4
    assert len({run.data.tags["mlflow.parentRunId"] for run in children}) == 1
    assert {run.info.status for run in children} == {"FINISHED"}
    train = next(run for run in children if "recipe.name" in run.data.params)
    assert train.inputs.dataset_inputs, "the training does not say what it read"
