"""Folders, tar shards and manifests made to trip their reader: every sample is accounted for, and nothing hangs."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gan_lib.core.errors import Rejected
from gan_lib.core.listing import Branch, branches, file_at, files_of
from gan_lib.preprocessing.samples import Part, Sample, from_batch, in_batches, read_part
from gan_lib.preprocessing.sources import manifest, tar
from gan_lib.preprocessing.sources.folder import plain_samples
from gan_lib.preprocessing.sources.listing import SourceError
from gan_lib.preprocessing.sources.manifest import ManifestSource
from gan_lib.preprocessing.sources.spool import spooled
from tests.preprocessing.conftest import file_of, fill, image

pytestmark = pytest.mark.timeout(20)  # what would wait for a pipe fails here


def listed(folder: Path) -> dict[str, Sample]:
    entries = [entry for branch in branches(str(folder)) for entry in files_of(branch)]
    return {sample.name: sample for sample in plain_samples(str(folder), entries)}


def reason_of(part: Part) -> str:
    with pytest.raises(Rejected) as rejection:
        read_part(part, 10**6)
    return rejection.value.reason


def test_pipes_devices_and_links_in_a_circle_are_listed_and_refused_without_waiting(tmp_path):
    fill(tmp_path, {"folder.jpg/good.png": file_of(image(1)), "a::b.png": file_of(image(2))})
    os.mkfifo(tmp_path / "pipe.jpg")
    os.symlink("/dev/zero", tmp_path / "endless.jpg")
    os.symlink("itself.jpg", tmp_path / "itself.jpg")
    samples = listed(tmp_path)
    odd = {"pipe.jpg", "endless.jpg", "itself.jpg"}
    assert samples.keys() == odd | {"folder.jpg/good.png", "a::b.png"}
    assert {reason_of(samples[name].parts[0]) for name in odd} == {"unreadable"}
    assert read_part(samples["a::b.png"].parts[0], 10**6) == file_of(image(2))


def test_a_file_that_vanishes_or_shrinks_after_it_was_listed_is_unreadable(tmp_path):
    fill(tmp_path, {"gone.png": file_of(image(1)), "shrunk.png": file_of(image(2))})
    samples = listed(tmp_path)
    (tmp_path / "gone.png").unlink()
    (tmp_path / "shrunk.png").write_bytes(b"")
    assert {reason_of(sample.parts[0]) for sample in samples.values()} == {"unreadable"}


def test_a_folder_that_vanishes_while_it_is_listed_is_a_sample_that_says_so(tmp_path):
    (entry,) = files_of(Branch(str(tmp_path / "gone"), whole=True))
    assert reason_of(Part(entry.url)) == "unreadable"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_is_not_for_us_to_read_is_a_reject(tmp_path):
    fill(tmp_path, {"secret.png": file_of(image(1)), "closed/1.png": file_of(image(2))})
    (tmp_path / "secret.png").chmod(0)
    (tmp_path / "closed").chmod(0)
    samples = listed(tmp_path)
    (tmp_path / "closed").chmod(0o700)
    assert {name: reason_of(sample.parts[0]) for name, sample in samples.items()} == dict.fromkeys(
        samples, "unreadable"
    )


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> tuple:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(content), kind, link
    return info, io.BytesIO(content)


def samples_of_shard(path: Path, members: list[tuple], mode: str = "w") -> list[Sample]:
    with tarfile.open(path, mode) as shard:
        for info, content in members:
            shard.addfile(info, content)
    return listed_shard(path)


def listed_shard(path: Path, fields: dict[str, str] | None = None, **options: Any) -> list[Sample]:
    """The samples of a tar file, as they come out of a task."""
    found = tar.samples_of_shard(file_at(str(path)), path.name, fields or {}, **options)
    return batched(spooled(str(path.parent / "spool"), found))


def batched(samples: Iterable[Sample]) -> list[Sample]:
    """Samples after the way through Arrow that each takes."""
    return [sample for batch in in_batches(iter(samples)) for sample in from_batch(batch)]


@pytest.mark.parametrize("suffix, mode", [(".tar", "w"), (".tar.gz", "w:gz")])
def test_tar_members_are_read_where_they_lie_whatever_they_are_called(tmp_path, suffix, mode):
    (tmp_path / "x").mkdir()
    names = ["../../etc/evil.png", "/absolute.png", "new\nline.png", "z" * 200 + ".png", "same.png", "same.png"]
    members = [member(name, file_of(image(number))) for number, name in enumerate(names)]
    members += [
        member("link.png", kind=tarfile.SYMTYPE, link="/etc/passwd"),
        member("hard.png", kind=tarfile.LNKTYPE, link="same.png"),
        member("device.png", kind=tarfile.CHRTYPE),
        member("pipe.png", kind=tarfile.FIFOTYPE),
        member("folder.png", kind=tarfile.DIRTYPE),
        member("alone.txt", b"a caption"),
    ]
    samples = samples_of_shard(tmp_path / "x" / f"s{suffix}", members, mode)
    good, bad = [i for i in samples if i.problem is None], [i for i in samples if i.problem is not None]
    assert [read_part(sample.parts[0], 10**6) for sample in good] == [file_of(image(n)) for n in range(len(names))]
    assert [sample.name for sample in good][-2:] == [f"s{suffix}/same", f"s{suffix}/same (2)"]
    problems = [(sample.name.rpartition("/")[2], (sample.problem or "").partition(":")[0]) for sample in bad]
    unsupported = [(name, "unsupported") for name in ("link", "hard", "device", "pipe")]
    assert problems == [*unsupported, ("alone", "no-content")]
    assert {path.name for path in tmp_path.iterdir()} == {"x"}, "nothing may be unpacked by a member's own name"


@pytest.mark.parametrize("suffix, mode", [(".tar", "w"), (".tar.gz", "w:gz"), (".tar.xz", "w:xz")])
def test_a_shard_cut_off_at_any_place_says_so_and_keeps_what_is_whole(tmp_path, suffix, mode):
    path = tmp_path / f"s{suffix}"
    samples_of_shard(path, [member(f"{n}.png", file_of(image(n))) for n in range(4)], mode)
    whole = path.read_bytes()
    for kept in (0, 1, len(whole) // 3, len(whole) // 2):
        path.write_bytes(whole[:kept])
        samples = listed_shard(path)
        assert any(sample.problem for sample in samples)


_MEASURE = """
import resource, sys
from gan_lib.core.listing import file_at
from gan_lib.preprocessing.sources import tar
list(tar.samples_of_shard(file_at(sys.argv[2]), "warm", {}))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
samples = list(tar.samples_of_shard(file_at(sys.argv[1]), "s", {}))
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(grown // 1024, samples[0].sample.name, samples[-1].problem)
"""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("suffix", [".tar.gz", ".tar.xz"])
def test_headers_of_a_tar_file_take_no_memory_whatever_they_claim(tmp_path, suffix):
    samples_of_shard(tmp_path / "warm.tar.gz", [member("a.png", file_of(image(1)))], "w:gz")
    info, content = member("a.png", file_of(image(1)))
    whole = info.tobuf() + content.getvalue() + bytes(-info.size % tarfile.BLOCKSIZE)
    header = tarfile.TarInfo("././@PaxHeader")
    header.size, header.type = 400 * 2**20, tarfile.XHDTYPE
    opened = gzip.open if suffix == ".tar.gz" else partial(lzma.open, preset=0)
    with opened(tmp_path / f"s{suffix}", "wb") as file:
        file.write(whole + header.tobuf(tarfile.PAX_FORMAT))
        for _ in range(400):
            file.write(bytes(2**20))
    command = [sys.executable, "-c", _MEASURE, str(tmp_path / f"s{suffix}"), str(tmp_path / "warm.tar.gz")]
    grown, first, problem = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split(" ", 2)
    assert first == "s/a"
    assert problem.startswith("corrupt: the tar file breaks off: ReadError: a header claims")
    assert int(grown) < 80


def test_a_tar_file_that_is_a_pipe_is_a_reject(tmp_path):
    os.mkfifo(tmp_path / "s.tar")
    (sample,) = listed_shard(tmp_path / "s.tar")
    assert (sample.problem or "").startswith("corrupt")


def listed_manifest(path: Path, fields: dict[str, str]) -> list[Sample]:
    """The samples of a manifest, as they come out of a task."""
    return batched(manifest.samples_of_manifest(str(path), "path", fields))


def test_lines_of_a_manifest_that_are_broken_or_come_twice_are_all_accounted_for(tmp_path):
    fill(tmp_path, {"in/1.png": file_of(image(1)), "2.png": file_of(image(2))})
    lines = ["path,label", "1.png,3", "1.png,3", "../2.png,4", "too,many,values", "lonely", ",5", '"a\nb.png",6']
    path = tmp_path / "in" / "list.csv"
    path.write_text("\n".join(lines) + "\n")
    samples = listed_manifest(path, {"label": "int64"})
    assert [(sample.name, sample.values) for sample in samples[:3]] == [
        ("1.png", {"label": 3}),
        ("1.png", {"label": 3}),
        ("../2.png", {"label": 4}),
    ]
    assert read_part(samples[2].parts[0], 10**6) == file_of(image(2))
    assert [(sample.name, sample.problem) for sample in samples[3:6]] == [
        ("list.csv, line 5", "bad-line: it holds 3 values, not 2"),
        ("list.csv, line 6", "bad-line: it holds 1 values, not 2"),
        ("list.csv, line 7", "bad-line: its path is no path"),
    ]
    assert reason_of(samples[6].parts[0]) == "unreadable"


def test_a_manifest_without_its_column_is_one_clear_sentence(tmp_path):
    (tmp_path / "list.csv").write_text("file,label\n1.png,3\n")
    with pytest.raises(SourceError, match="has no column path; it has file, label"):
        ManifestSource(kind="manifest", path=str(tmp_path / "list.csv")).listing(None)  # type: ignore[arg-type]
