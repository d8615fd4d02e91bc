"""Whatever the bytes of a corpus are, its listing ends, in bounded time, as samples that are good or say why not."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import struct
import tarfile
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gan_lib.core.errors import Rejected
from gan_lib.core.listing import file_at
from gan_lib.preprocessing.samples import Sample, from_batch, in_batches, read_part
from gan_lib.preprocessing.sources import idx, lines, manifest, table, tar
from gan_lib.preprocessing.sources.spool import Loose, spooled
from tests.preprocessing.conftest import file_of, image

CONTENT = file_of(image(1, 8, 8))
SLUG = r"[a-z0-9-]+: .+"

examples = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def many(number: int) -> Callable[[Any], Any]:
    return settings(examples, max_examples=number)


def shard(mode: str) -> bytes:
    """A tar file with all kinds of members and, where the format has them, long names and further headers."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=tarfile.PAX_FORMAT, pax_headers={"comment": "x"}) as archive:
        values = {"a.png": CONTENT, "a.json": b'{"n": 1}', "a.cls": b"3", "b/ü.png": CONTENT, "b/ü.txt": "é".encode()}
        for name, content in {**values, "c" * 150 + ".png": CONTENT, "d.cls": b"1"}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def parquet(columns: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


NAMES, PATHS = ["a", "ü", None], ["a.png", "b/ü.png", None]
SEEDS = {
    "tar": shard("w"),
    "tar.gz": shard("w:gz"),
    "tar.bz2": shard("w:bz2"),
    "tar.xz": shard("w:xz"),
    "csv": b"path,n,caption\na.png,1,x\n" + 'b/ü.png,2,"y, ü"\n'.encode() * 3,
    "manifest.parquet": parquet({"path": PATHS, "n": [1, 2, 3], "caption": ["x", "ü", None]}),
    "table.parquet": parquet({"name": NAMES, "content": [CONTENT, b"", None], "n": [1, 2, 3]}),
    "txt": b"one\n\n two \r\n" + "ü\n".encode() * 5 + b"last",
    "images": struct.pack(">4I", 0x803, 3, 4, 4) + bytes(range(48)),
    "images.gz": gzip.compress(struct.pack(">4I", 0x803, 3, 4, 4) + bytes(range(48))),
}


def listed(kind: str, path: Path) -> Iterable[Sample | Loose]:
    """What a source of this kind makes of a file."""
    entry = file_at(str(path))
    if "tar" in kind:
        return tar.samples_of_shard(entry, path.name, {"n": "int64"}, max_bytes=10**5)
    if kind == "table.parquet":
        columns = table.Columns("name", "content", (("n", "int64"),), 10**5)
        return table.samples_of_file(str(path.parent), columns, entry, 0, 1)
    if kind == "txt":
        return lines.lines_of(entry, path.name)
    if kind.startswith("images"):
        labels = path.parent / "labels"
        labels.write_bytes(struct.pack(">2I", 0x801, 3) + bytes(3))
        return idx.samples_of_files(entry.url, str(labels), 3, 4, 4)
    return manifest.samples_of_manifest(str(path), "path", {"n": "int64", "caption": "str"})


def require_accounted(kind: str, content: bytes) -> list[Sample]:
    """List a file of these bytes, and see that each sample can be read or says why not."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"s.{kind}")
        path.write_bytes(content)
        found = spooled(str(Path(folder, "spool")), listed(kind, path))
        samples = [sample for batch in in_batches(itertools.islice(found, 10_000)) for sample in from_batch(batch)]
        for sample in samples:
            assert isinstance(sample.fingerprint, int) and isinstance(sample.values, dict)
            assert (sample.problem is None) == bool(sample.parts) or ": " in str(sample.problem)
            for part in sample.parts:
                try:
                    read_part(part, 10**5)
                except Rejected as rejected:
                    assert rejected.reason and rejected.message
        return samples


@st.composite
def mutated(draw: st.DrawFn, seed: bytes) -> bytes:
    """A file with some bytes changed, cut out, doubled or put in."""
    content = bytearray(seed)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        length = draw(st.sampled_from((1, 1, 2, 8, 12, 512, 600)))
        what = draw(st.sampled_from(("write", "fill", "cut", "double", "end")))
        if what == "write":
            content[at : at + length] = draw(st.binary(max_size=12))
        elif what == "fill":
            content[at : at + length] = bytes([draw(st.sampled_from((0, 0x30, 0x37, 0x80, 0xFF)))]) * length
        elif what == "cut":
            del content[at : at + length]
        elif what == "double":
            content[at:at] = content[at : at + length]
        else:
            del content[at:]
    return bytes(content)


@pytest.mark.parametrize("kind", SEEDS)
def test_a_whole_file_gives_good_samples(kind):
    assert [sample for sample in require_accounted(kind, SEEDS[kind]) if sample.problem is None]


@pytest.mark.parametrize("kind", SEEDS)
@examples
@given(st.data())
def test_a_damaged_file_costs_nothing_but_rows_with_reasons(kind, data):
    require_accounted(kind, data.draw(mutated(SEEDS[kind])))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", SEEDS)
@many(5_000)
@given(st.data())
def test_a_damaged_file_costs_nothing_but_rows_with_reasons_at_length(kind, data):
    require_accounted(kind, data.draw(mutated(SEEDS[kind])))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=8),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.sampled_from(["n", "caption"]), below, max_size=3),
    max_leaves=8,
)


def archive_of(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@examples
@given(anything)
def test_any_json_beside_a_sample_is_its_values_or_its_reason(value):
    content = json.dumps(value).encode()
    samples = require_accounted("tar", archive_of({"a.png": CONTENT, "a.json": content, "b.png": CONTENT}))
    assert len(samples) == 2
    assert {(sample.problem or "bad-field").partition(":")[0] for sample in samples} == {"bad-field"}
