"""Every promise of the store layer, on a local disk, on real S3 and Azure servers, and where rename is emulated."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from multiprocessing.context import ForkServerContext

import elsewhere
import pytest
from kinds_of_store import Store, in_environment

from gan_lib.core import storage
from gan_lib.core.errors import Rejected, StoreUnavailable, UserError
from gan_lib.core.stores.commit_record import create_commit_record, read_commit_record, write_commit_record

NAMES = [
    "a",
    "a::b.bin",
    "a*b?[c]",
    "50%.bin",
    "%41",
    "a#b",
    "ä b",
    " x",
    "x ",
    "memory:x",
    "a;b+c@d",
    "\U0001f600",
    "..a",
]
AZURE = "FSSPEC_ABFS_CONNECTION_STRING"
HALF = 400_000  # bytes: several chunks where rename is emulated


def test_what_is_written_is_read_back_and_listed(store: Store):
    url = storage.join(store.url, "a", "b", "x.bin")
    storage.write_atomic(url, b"first")
    storage.write_atomic(url, b"0123456789")
    assert storage.read_bytes(url) == b"0123456789"
    assert storage.list_names(storage.join(store.url, "a")) == ["b"]
    assert storage.list_names(storage.join(store.url, "a", "b")) == ["x.bin"]
    assert storage.exists(url) and not storage.is_folder(url)
    assert storage.is_folder(storage.join(store.url, "a")) and storage.exists(storage.join(store.url, "a"))


def test_a_range_ends_where_the_file_ends(store: Store):
    url = storage.join(store.url, "ten")
    storage.write_atomic(url, b"0123456789")
    wanted = {(0, 3): b"012", (8, 10): b"89", (10, 1): b"", (20, 10): b"", (2, 0): b"", (0, 10): b"0123456789"}
    assert {span: storage.read_range(url, *span) for span in wanted} == wanted
    storage.write_atomic(url, b"")
    assert storage.read_range(url, 0, 5) == b"" and storage.read_bytes(url) == b""


def test_an_open_file_is_read_from_anywhere(store: Store):
    content = random.Random(1).randbytes(200_000)
    storage.write_atomic(storage.join(store.url, "x"), content)
    with storage.open_file(storage.join(store.url, "x")) as file:
        assert file.read(5) == content[:5] and file.tell() == 5
        assert file.seek(-7, os.SEEK_END) == len(content) - 7 and file.read() == content[-7:]
        assert file.seek(100_000) == 100_000 and file.read(70_000) == content[100_000:170_000]
        assert file.seek(0) == 0 and file.read() == content


def test_what_is_not_there_is_told_as_such(store: Store):
    nothing = storage.join(store.url, "nothing")
    for read in (storage.read_bytes, storage.open_file, lambda url: storage.read_range(url, 0, 1)):
        with pytest.raises(FileNotFoundError):
            read(nothing)
    assert not storage.exists(nothing) and not storage.is_folder(nothing)
    assert storage.list_names(nothing) == []
    storage.write_atomic(storage.join(store.url, "nothings"), b"")
    assert not storage.exists(nothing) and storage.list_names(nothing) == []
    storage.remove_tree(nothing)
    assert read_commit_record(nothing) is None


def test_names_are_opaque_and_each_its_own(store: Store):
    folder = storage.join(store.url, "names [*]")
    for name in NAMES:
        storage.write_atomic(storage.join(folder, name), name.encode())
    assert storage.list_names(folder) == sorted(NAMES)
    for name in NAMES:
        url = storage.join(folder, name)
        assert (
            storage.read_bytes(url) == storage.read_range(url, 0, 100) == storage.open_file(url).read() == name.encode()
        )
        assert storage.exists(url) and not storage.is_folder(url)
        assert storage.relative(store.url, url) == f"names [*]/{name}"
    for name in NAMES[:4]:
        storage.remove_tree(storage.join(folder, name))
    assert storage.list_names(folder) == sorted(NAMES[4:])
    storage.remove_tree(folder)
    assert storage.list_names(folder) == [] and not storage.exists(folder)


def test_a_name_that_a_store_would_take_for_another_is_refused(store: Store):
    taken_for_others = {"s3": ["a?versionId=3"], "azure": ["a?", "a#", "a\nb", "a\\b", "a\tb/c"]}
    storage.write_atomic(storage.join(store.url, "a"), b"a stranger")
    for name in taken_for_others.get(store.kind, []):
        for use in (storage.read_bytes, storage.exists, lambda url: storage.write_atomic(url, b"its own")):
            with pytest.raises(Rejected, match="takes a part of the name for something else"):
                use(storage.join(store.url, name))
    assert storage.list_names(store.url) == ["a"]


def test_removing_a_folder_whose_name_is_a_pattern_leaves_what_matches_it(store: Store):
    for name in ("rm/a*/x", "rm/a*/deep/y", "rm/ab/x", "rm/a*b", "rm/[a]/x", "rm/a/x"):
        storage.write_atomic(storage.join(store.url, name), b"")
    storage.remove_tree(storage.join(store.url, "rm", "a*"))
    storage.remove_tree(storage.join(store.url, "rm", "[a]"))
    assert storage.list_names(storage.join(store.url, "rm")) == ["a", "a*b", "ab"]
    assert storage.list_names(storage.join(store.url, "rm", "ab")) == ["x"]


def test_a_folder_lists_neither_itself_nor_a_neighbour_of_a_longer_name(store: Store):
    for name in ("dir/a", "dir/sub/y", "dir2/x", "dir.bin"):
        storage.write_atomic(storage.join(store.url, name), b"")
    assert storage.list_names(storage.join(store.url, "dir")) == ["a", "sub"]
    assert storage.list_names(storage.join(store.url, "dir/")) == ["a", "sub"]
    assert storage.list_names(storage.join(store.url, "di")) == []
    assert storage.list_names(store.url) == ["dir", "dir.bin", "dir2"]
    storage.remove_tree(storage.join(store.url, "dir"))
    assert storage.list_names(store.url) == ["dir.bin", "dir2"]


def test_a_file_beside_a_folder_of_its_name_is_listed_once(s3_bucket: str):
    top = storage.join(s3_bucket, "beside")
    storage.write_atomic(storage.join(top, "a"), b"")
    storage.write_atomic(storage.join(top, "a", "b"), b"")
    assert storage.list_names(top) == ["a"]
    storage.remove_tree(storage.join(top, "a"))
    assert storage.list_names(top) == []


def test_a_listing_shows_what_another_process_has_just_written(
    store: Store, processes: ForkServerContext, environment: dict[str, str]
):
    storage.write_atomic(storage.join(store.url, "early"), b"")
    assert storage.list_names(store.url) == ["early"]
    assert not storage.exists(storage.join(store.url, "late"))
    writer = processes.Process(
        target=elsewhere.write_one, args=(storage.join(store.url, "late"), b"here", environment), daemon=True
    )
    writer.start()
    writer.join(60)
    assert writer.exitcode == 0
    assert storage.exists(storage.join(store.url, "late"))
    assert storage.list_names(store.url) == ["early", "late"]
    assert storage.read_bytes(storage.join(store.url, "late")) == b"here"


def test_a_plain_process_finds_the_store(store: Store):
    storage.write_atomic(storage.join(store.url, "x"), b"here")
    program = "import sys; from gan_lib.core import storage; print(storage.read_bytes(sys.argv[1]).decode())"
    command = [sys.executable, "-c", program, storage.join(store.url, "x")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "here\n"


def test_create_tells_whether_its_content_is_what_is_there(store: Store):
    url = storage.join(store.url, "lock")
    assert storage.create(url, b"first")
    assert not storage.create(url, b"second")
    assert storage.create(url, b"first")  # as after an answer that was lost
    assert storage.read_bytes(url) == b"first"
    assert storage.list_names(store.url) == ["lock"]


def test_of_two_processes_that_create_a_file_at_once_one_wins(
    store: Store, processes: ForkServerContext, environment: dict[str, str]
):
    if not store.conditional:
        pytest.skip("this store cannot tell: the look and the write are two steps")
    rounds, start = 6, processes.Barrier(2)
    racers = [
        processes.Process(
            target=elsewhere.create_in_race, args=(store.url, name, rounds, start, environment), daemon=True
        )
        for name in ("left", "right")
    ]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(60)
        assert racer.exitcode == 0
    won = dict(name.split("-") for name in storage.list_names(storage.join(store.url, "won")))
    assert len(storage.list_names(storage.join(store.url, "won"))) == rounds
    for number, name in won.items():
        assert storage.read_bytes(storage.join(store.url, f"lock-{number}")).decode() == name


@pytest.mark.parametrize("kills", [3, pytest.param(25, marks=pytest.mark.slow)])
def test_a_writer_killed_at_any_moment_leaves_the_old_content_or_the_new(
    store: Store, kills: int, processes: ForkServerContext, environment: dict[str, str], monkeypatch
):
    if not store.atomic:
        environment["EMULATED_STORE_PAUSE"] = "0.01"
    url = storage.join(store.url, "value")
    delays = random.Random(7)
    torn = 0
    for _ in range(kills):
        kill_a_writer(url, delays.uniform(0, 0.2), processes, environment)
        content = storage.read_bytes(url)
        torn += len(content) != HALF or len(set(content)) != 1
    assert torn == 0 or not store.atomic


def kill_a_writer(url: str, delay: float, processes: ForkServerContext, environment: dict[str, str]) -> None:
    """Let a process write to ``url`` without end, and kill it ``delay`` seconds after the file is there."""
    storage.remove_tree(url)
    writer = processes.Process(target=elsewhere.write_without_end, args=(url, HALF, environment), daemon=True)
    writer.start()
    deadline = time.monotonic() + 30
    while not storage.exists(url) and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(delay)
    os.kill(writer.pid or 0, signal.SIGKILL)
    writer.join()


def test_only_a_commit_record_tells_what_is_whole_where_rename_is_emulated(
    emulated_folder: str, processes: ForkServerContext
):
    url = storage.join(emulated_folder, "torn", "value")
    environment = {**os.environ, "EMULATED_STORE_PAUSE": "0.03"}
    kill_a_writer(url, 0.03, processes, environment)
    assert 0 < len(storage.read_bytes(url)) < HALF  # it is there, and not whole
    record = storage.join(emulated_folder, "torn", "record.json")
    assert read_commit_record(record) is None
    write_commit_record(record, {"bytes": HALF})
    whole = storage.read_bytes(record)
    for length in range(len(whole)):
        storage.open_store(record)[0].pipe_file(storage.open_store(record)[1], whole[:length])
        assert read_commit_record(record) is None


def test_what_killed_writers_left_is_hidden_and_swept(store: Store):
    kept = ["data/part.parquet", "data/.hidden", "data/x.tmp", "data/sub/.crc"]
    left = [f"data/.part.{'0' * 32}.tmp", f"data/sub/.x.{'a' * 32}.tmp", f".top.{'f' * 32}.tmp"]
    for name in (*kept, *left):
        storage.write_atomic(storage.join(store.url, name), b"x")
    assert storage.list_names(storage.join(store.url, "data")) == [".hidden", "part.parquet", "sub", "x.tmp"]
    assert storage.sweep_temporaries(storage.join(store.url, "data")) == 2
    assert storage.sweep_temporaries(store.url) == 1
    assert storage.sweep_temporaries(store.url) == 0
    assert storage.sweep_temporaries(storage.join(store.url, "nothing")) == 0
    assert all(storage.read_bytes(storage.join(store.url, name)) == b"x" for name in kept)


def test_parts_that_a_killed_writer_of_a_large_object_left_on_s3_are_swept(s3_bucket: str, monkeypatch):
    import s3fs

    folder = storage.join(s3_bucket, "large*", "a b")
    fs, path = storage.open_store(folder)
    for name in ("below/x", "/y", "../a bc/z"):
        fs.call_s3("create_multipart_upload", Bucket=path.split("/")[0], Key=os.path.normpath(f"large*/a b/{name}"))
    ask = s3fs.S3FileSystem._call_s3

    async def dying(self, method, *arguments, **options):
        if method in ("complete_multipart_upload", "abort_multipart_upload"):
            raise RuntimeError("killed")
        return await ask(self, method, *arguments, **options)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(s3fs.S3FileSystem, "_call_s3", dying)
        storage.write_atomic(storage.join(folder, "large.bin"), bytes(100 * 2**20))

    def left() -> list[str]:
        return sorted(upload["Key"] for upload in fs.list_multipart_uploads(path.split("/")[0]))

    assert left() == ["large*/a b/below/x", "large*/a b/large.bin", "large*/a b/y", "large*/a bc/z"]
    storage.sweep_folder(folder)
    assert left() == ["large*/a b/below/x", "large*/a bc/z"]
    assert storage.sweep_temporaries(folder) == 1
    assert left() == ["large*/a bc/z"]
    assert storage.list_names(folder) == []
    storage.remove_tree(storage.join(s3_bucket, "large*", "a bc"))
    assert left() == []


def test_a_failed_write_leaves_nothing(store: Store):
    with pytest.raises(RuntimeError), storage.writing(storage.join(store.url, "x")) as file:
        file.write(b"half")
        raise RuntimeError
    assert storage.list_names(store.url) == []
    assert storage.sweep_temporaries(store.url) == 0


def test_a_record_is_created_once(store: Store):
    url = storage.join(store.url, "record.json")
    assert create_commit_record(url, {"rows": 3})
    assert not create_commit_record(url, {"rows": 4})
    assert read_commit_record(url) == {"rows": 3}


@pytest.mark.parametrize("scheme", ["s3", pytest.param("abfs", marks=pytest.mark.slow)])
def test_a_bucket_that_is_missing_is_a_sentence(scheme: str, request: pytest.FixtureRequest):
    request.getfixturevalue({"s3": "s3_bucket", "abfs": "azure_container"}[scheme])
    url = f"{scheme}://no-such-bucket/x"
    assert not storage.exists(url) and storage.list_names(url) == []
    for write in (storage.write_atomic, storage.create):
        with pytest.raises(UserError, match="its bucket or container does not exist"):
            write(url, b"")


def test_a_server_that_is_gone_is_not_an_empty_store(s3_bucket: str, monkeypatch: pytest.MonkeyPatch):
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        url = storage.join(s3_bucket, "x")
        for ask in (storage.exists, storage.is_folder, storage.list_names, storage.read_bytes, storage.remove_tree):
            with pytest.raises(StoreUnavailable, match="cannot be had now"):
                ask(url)
    finally:
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.slow  # Azure's client tries for a minute
def test_an_azure_server_that_is_gone_is_named_once_its_client_gives_up(azure_container: str):
    with in_environment({"FSSPEC_ABFS_CONNECTION_STRING": re.sub(r":\d+/", ":9/", os.environ[AZURE])}):
        started = time.monotonic()
        with pytest.raises(StoreUnavailable, match="cannot be had now"):
            storage.exists(storage.join(azure_container, "x"))
        assert time.monotonic() - started < 120
