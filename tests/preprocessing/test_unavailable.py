"""What a store does not give now is asked for again, left for the next run, and never recorded against the image."""

from __future__ import annotations

import errno
import http.server
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from gan_lib.core import storage
from gan_lib.core.errors import MachineInTrouble, Rejected, StoreUnavailable
from gan_lib.core.stores.commit_record import read_commit_record
from gan_lib.dataset.schema import PngField, Schema
from gan_lib.preprocessing.media.image import ImageMedium
from gan_lib.preprocessing.preprocess import require_all_read
from gan_lib.preprocessing.samples import Part, Sample, read_part
from gan_lib.preprocessing.task import TaskContext, run_task
from tests.preprocessing.conftest import file_of, fill, image, rows_of, settings_of, status_of


class Server(http.server.ThreadingHTTPServer):
    """Gives images by number, after as many refusals as ``failures`` says."""

    failures: dict[str, int]
    status = 503
    asked: Counter[str]


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        self.server.asked[name] += 1
        refused = self.server.asked[name] <= self.server.failures.get(name, 0)
        content = b"" if refused else file_of(image(int(name.partition(".")[0])))
        self.send_response(self.server.status if refused else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    pytest.importorskip("aiohttp", reason="fsspec opens http:// by aiohttp, which is not in this environment")
    with Server(("127.0.0.1", 0), Handler) as server:
        server.failures, server.asked = {}, Counter()
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("status", [503, 403])
def test_what_fails_for_a_moment_is_read_and_what_fails_on_is_left_for_the_next_run(run, server, tmp_path, status):
    server.status = status
    server.failures = {"1.png": 2 if status == 503 else 1, "2.png": 10**6}
    urls = [f"http://127.0.0.1:{server.server_port}/{number}.png" for number in range(3)]
    fill(tmp_path, {"list.csv": "\n".join(["path", *urls]).encode()})
    source = {"kind": "manifest", "path": str(tmp_path / "list.csv")}
    first = run(source)
    assert first.manifest.counts == {"read": 2, "written": 2, "rejected": 0, "duplicate": 0}
    assert urls[2] not in status_of(first)
    with pytest.raises(StoreUnavailable, match=r"1 samples could not be had now; .*The first: .*2\.png cannot be had"):
        require_all_read(first)
    server.failures = {}
    second = run(source)
    assert second.manifest.counts == {"read": 3, "written": 3, "rejected": 0, "duplicate": 0}
    require_all_read(second)


def test_a_caption_that_cannot_be_read_now_rejects_no_image(run, tmp_path):
    folder = fill(tmp_path / "in", {"1.png": file_of(image(1)), "2.png": file_of(image(2)), "2.txt": b"two"})
    (folder / "1.txt").symlink_to("/proc/self/mem")  # EIO
    source = {"kind": "captioned_folder", "path": str(folder)}
    assert run(source).manifest.counts == {"read": 1, "written": 1, "rejected": 0, "duplicate": 0}
    (folder / "1.txt").unlink()
    fill(folder, {"1.txt": b"one"})
    assert sorted(row["caption"] for row in rows_of(run(source))) == ["one", "two"]


@pytest.mark.parametrize(
    "number, problem",
    [
        (errno.EIO, StoreUnavailable),
        (errno.EACCES, StoreUnavailable),
        (errno.ETIMEDOUT, StoreUnavailable),
        (errno.EMFILE, MachineInTrouble),
        (errno.ENOMEM, MachineInTrouble),
        (errno.ENOENT, Rejected),
        (errno.ELOOP, Rejected),
    ],
)
def test_who_is_at_fault_is_told_by_the_error(monkeypatch, number, problem):
    def fail(path: str) -> None:
        raise OSError(number, "as the test says", path)

    monkeypatch.setattr(storage, "FIRST_PAUSE_SECONDS", 0)
    monkeypatch.setattr(storage, "_open_regular", fail)
    with pytest.raises(problem):
        read_part(Part("/corpus/1.png", 0, 10), 100)


class Unit:
    """Samples that are planned already."""

    def __init__(self, *samples: Sample) -> None:
        self._samples = samples

    def read(self) -> list[Sample]:
        return list(self._samples)


def context_for(folder: Path) -> TaskContext:
    values = settings_of({"kind": "folder", "path": str(folder)}, folder / "dataset", storage={"kind": "png"})
    schema = Schema("Samples", (PngField("image", (None, None, 3)),))
    return TaskContext(values, schema, {"image": ImageMedium()}, {}, {}, str(folder / "staging"), 4)


def away(name: str) -> Sample:
    return Sample(name, (), problem="unavailable: the store is busy")


def test_a_task_of_which_nothing_can_be_had_leaves_no_record_and_is_done_again(tmp_path):
    fill(tmp_path, {"1.png": file_of(image(1)), "2.png": b"bad"})
    good, bad = (Sample(name, (Part(str(tmp_path / name)),)) for name in ("1.png", "2.png"))
    context = context_for(tmp_path)
    with pytest.raises(StoreUnavailable, match="the store is busy"):
        run_task(context, 0, [Unit(away("1.png"), bad)])
    assert read_commit_record(context.record_url(0)) is None
    run_task(context, 0, [Unit(good, bad)])
    record = read_commit_record(context.record_url(0))
    assert record is not None and record["rows"]["train"] == 1 and record["unavailable"] == []


def test_a_store_that_is_down_ends_the_job(tmp_path):
    good = Sample("1.png", (Part(str(fill(tmp_path, {"1.png": file_of(image(1))}) / "1.png")),))
    with pytest.raises(StoreUnavailable, match="32 samples after each other cannot be had now"):
        run_task(context_for(tmp_path), 0, [Unit(good, *(away(str(number)) for number in range(40)))])
