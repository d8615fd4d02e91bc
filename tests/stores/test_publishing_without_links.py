"""A mounted disk without hard links: versions share files by their manifests, and each is whole or not there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from inline_spark import preprocess_inline, without_spark

from gan_lib.dataset.catalog import open_dataset
from gan_lib.dataset.manifest import published_versions
from tests.preprocessing.conftest import file_of, fill, image, settings_of


class Died(BaseException):
    """The process is gone."""


@pytest.fixture(autouse=True)
def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)


def rows_of(output: Path, version: int | None = None) -> list[bytes]:
    return sorted(row["image"].tobytes() for row in open_dataset(str(output), version=version).read_rows())


def publish(corpus: Path, output: Path) -> None:
    source = {"kind": "folder", "path": str(corpus)}
    values = {"storage": {"kind": "png"}, "layout": {"file_bytes": 500, "row_group_rows": 1}}
    with without_spark():
        preprocess_inline(settings_of(source, output, **values, work={"threads": 1}))


def test_a_version_that_is_cut_off_at_any_rename_is_not_there_and_the_next_run_publishes_it(
    tmp_path: Path, monkeypatch
):
    few = {f"{number}.png": file_of(image(number, 8, 8)) for number in range(2)}
    corpus = fill(tmp_path / "corpus", few)
    publish(corpus, tmp_path / "whole")
    first = rows_of(tmp_path / "whole")
    fill(corpus, {"2.png": file_of(image(2, 8, 8))})
    publish(corpus, tmp_path / "whole")
    second = rows_of(tmp_path / "whole")
    (corpus / "2.png").unlink()
    publish(corpus, tmp_path / "out")
    fill(corpus, {"2.png": file_of(image(2, 8, 8))})

    replace, left, cuts = os.replace, [0], 0

    def cut(source: str, target: str) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Died
        replace(source, target)

    monkeypatch.setattr(os, "replace", cut)
    while published_versions(str(tmp_path / "out")) == [1]:
        cuts += 1
        left[0] = 3 * cuts
        try:
            publish(corpus, tmp_path / "out")
        except Died:
            assert rows_of(tmp_path / "out") == first
    assert cuts > 3
    assert rows_of(tmp_path / "out", 1) == first and rows_of(tmp_path / "out", 2) == second
