"""Versions of a dataset on each kind of store: files are shared by reference where there are no links, and exported."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from kinds_of_store import Store

from gan_lib.core import storage
from gan_lib.core.errors import UserError
from gan_lib.dataset.catalog import Dataset, open_dataset
from gan_lib.dataset.manifest import MANIFEST, is_committed, published_versions, version_url
from gan_lib.dataset.schema import DatasetError
from gan_lib.preprocessing.preprocess import Published, preprocess
from gan_lib.preprocessing.publishing.exporting import export_dataset
from jobs import export_dataset as export_job
from jobs import preprocess as preprocess_job
from tests.preprocessing.conftest import file_of, fill, image, settings_of, status_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

STORES = ("AWS_", "FSSPEC_", "EMULATED_", "PYTHONPATH")


@pytest.fixture
def workers(spark: SparkSession, store: Store) -> Iterator[SparkSession]:
    """Spark, whose workers find the store: its session may be older than the server."""
    known = dict(spark.sparkContext.environment)
    spark.sparkContext.environment.update({k: v for k, v in os.environ.items() if k.startswith(STORES)})
    yield spark
    spark.sparkContext.environment.clear()
    spark.sparkContext.environment.update(known)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    files = {f"{n}.png": file_of(image(n)) for n in range(6)}
    return fill(tmp_path / "corpus", {**files, "copy.png": files["0.png"], "bad.png": b"no image"})


def rows_of(dataset: Dataset) -> list[bytes]:
    return sorted(row["image"].tobytes() for row in dataset.read_rows())


def publish(spark: SparkSession, corpus: Path, output: str) -> Published:
    values: dict[str, Any] = {"storage": {"kind": "png"}, "layout": {"row_group_rows": 2}}
    return preprocess(spark, settings_of({"kind": "folder", "path": str(corpus)}, output, **values))  # type: ignore


def all_rows(output: str, version: int | None = None) -> list[bytes]:
    return rows_of(open_dataset(output, version=version))


def pixels(*numbers: int) -> list[bytes]:
    return sorted(image(number).tobytes() for number in numbers)


def petastorm_rows(folder: str, make_reader: Callable[..., Any]) -> list[bytes]:
    with make_reader(f"file://{folder}", shuffle_row_groups=False, reader_pool_type="dummy") as reader:
        return [row.image.tobytes() for row in reader]


def test_versions_share_files_and_an_exported_one_is_a_folder_for_stock_petastorm(
    workers: SparkSession, store: Store, corpus: Path, tmp_path: Path
):
    output = storage.join(store.url, "dataset")
    first = publish(workers, corpus, output)
    assert first.manifest.counts == {"read": 8, "written": 6, "rejected": 1, "duplicate": 1}
    fill(corpus, {"6.png": file_of(image(6))})
    second = publish(workers, corpus, output)
    assert not publish(workers, corpus, output).new
    assert published_versions(output) == [1, 2]
    assert all_rows(output, 1) == pixels(*range(6)) and all_rows(output) == pixels(*range(7))
    assert status_of(second).keys() == {*(f"{n}.png" for n in range(7)), "copy.png", "bad.png"}
    assert "bad.png,not-an-image" in second.rejects_csv()
    assert storage.list_names(storage.join(output, "_staging")) == []
    if store.kind == "local":
        assert storage.list_names(output) == ["versions"] and not second.manifest.elsewhere
    else:
        assert storage.list_names(version_url(output, 2)) == [MANIFEST]
        urls = [{group.url for group in open_dataset(output, version=number).row_groups} for number in (1, 2)]
        assert urls[0] <= urls[1]

    folder = str(tmp_path / "exported")
    assert export_dataset(workers, output, folder).version == 2
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".export")]
    assert all_rows(folder) == pixels(*range(7))
    assert open_dataset(folder).fingerprint == open_dataset(output).fingerprint
    make_reader = pytest.importorskip(
        "petastorm", reason="stock Petastorm does not run beside this pyarrow"
    ).make_reader
    assert sorted(petastorm_rows(f"{folder}/train", make_reader)) == pixels(*range(7))


def test_an_export_is_whole_or_refused(workers: SparkSession, store: Store, corpus: Path, monkeypatch):
    output, folder = storage.join(store.url, "dataset"), storage.join(store.url, "exported")
    with pytest.raises(DatasetError, match="has no version: nothing was published there"):
        export_dataset(workers, output, folder)
    publish(workers, corpus, output)
    with monkeypatch.context() as patched:
        patched.setattr("gan_lib.preprocessing.publishing.exporting.write_metadata", stop)
        with pytest.raises(Stopped):
            export_dataset(workers, output, folder)
    assert not is_committed(folder)
    with pytest.raises(DatasetError, match="There is no dataset"):
        open_dataset(folder)
    export_dataset(workers, output, folder)
    assert all_rows(folder) == pixels(*range(6))
    fill(corpus, {"6.png": file_of(image(6))})
    publish(workers, corpus, output)
    assert export_dataset(workers, output, folder, version=1).version == 1  # it is there already
    with pytest.raises(UserError, match="holds another version already"):
        export_dataset(workers, output, folder)
    with pytest.raises(DatasetError, match="has no version 7: it has 1, 2"):
        export_dataset(workers, output, folder, version=7)
    assert all_rows(folder) == pixels(*range(6))


class Stopped(Exception):
    pass


def stop(*_: object) -> None:
    raise Stopped


def run(main: Callable[[list[str]], None], configuration: Path, *overrides: str) -> None:
    main(["--config", str(configuration), *(word for override in overrides for word in ("--set", override))])


@pytest.mark.parametrize("store", ["s3"], indirect=True)
def test_both_jobs_do_so_on_s3(
    workers: SparkSession, store: Store, corpus: Path, tmp_path: Path, repository: Path, capsys: pytest.CaptureFixture
):
    tracked = f"tracking.uri=sqlite:///{tmp_path}/mlflow.db"
    output, folder = storage.join(store.url, "dataset"), str(tmp_path / "exported")
    made = ["patches={kind: whole}", "split={}", "filters={}", f"source.path={corpus}", f"output={output}", tracked]
    for _ in range(2):
        run(preprocess_job.main, repository / "conf/preprocess/demo.yaml", *made)
    fill(corpus, {"cats/7.png": file_of(image(7))})
    with pytest.raises(UserError, match="they differ in label"):
        run(preprocess_job.main, repository / "conf/preprocess/demo.yaml", *made, "source.kind=class_folders")
    assert published_versions(output) == [1]
    copied = [f"dataset={output}", f"output={folder}", tracked]
    run(export_job.main, repository / "conf/export_dataset/demo.yaml", *copied)
    told = capsys.readouterr().out
    assert f"published {output}/versions/000001: 6 train rows" in told and "nothing new in the source" in told
    assert f"petastorm.make_reader opens {folder}/train" in told
    assert rows_of(open_dataset(folder)) == pixels(*range(6))
