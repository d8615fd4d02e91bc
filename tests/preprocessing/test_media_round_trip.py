"""A dataset of each medium through the job and back: equal to its source, by our loader and by stock Petastorm."""

from __future__ import annotations

import io
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from gan_lib.core.errors import UserError
from gan_lib.core.images import decode, decode_label_map
from gan_lib.dataset.catalog import Dataset, open_dataset
from gan_lib.dataset.schema import ImageField
from gan_lib.loading.loader import Loader
from gan_lib.preprocessing.media.tokens import SPECIAL_TOKENS
from gan_lib.preprocessing.preprocess import preprocess
from jobs.preprocess import main
from tests.preprocessing.conftest import file_of, fill, image, settings_of

Publish = Callable[..., Dataset]


@pytest.fixture(scope="module")
def tracking_uri(tmp_path_factory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('tracking')}/mlflow.db"


@pytest.fixture
def publish(spark, repository, tracking_uri, tmp_path) -> Publish:
    """Run the job by one of its configurations, without a test split, and open what it publishes."""

    def run(configuration: str, **overrides: str) -> Dataset:
        values = {"output": f"{tmp_path}/dataset", "tracking.uri": tracking_uri, "split.test": "0", **overrides}
        settings = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
        main(["--config", f"{repository}/conf/preprocess/{configuration}.yaml", *settings])
        return open_dataset(f"{tmp_path}/dataset")

    return run


@pytest.fixture
def run(spark, tmp_path) -> Publish:
    """Preprocess a source by the library's call, and open what it publishes."""

    def preprocessed(source: dict[str, Any], output_name: str, **values: Any) -> Dataset:
        return open_dataset(preprocess(spark, settings_of(source, tmp_path / output_name, **values)).url)

    return preprocessed


def multiset(rows: Iterable[Mapping[str, Any]]) -> Counter[tuple[Any, ...]]:
    """Rows whatever their order; arrays count with their type, shape and every bit."""

    def plain(value: Any) -> Any:
        array = np.asarray(value)
        return str(value) if isinstance(value, str) else (array.dtype.str, array.shape, array.tobytes())

    return Counter(tuple((name, plain(row[name])) for name in sorted(row)) for row in rows)


def by_loader(dataset: Dataset) -> list[dict[str, Any]]:
    """Rows as our loader's batches hold them, in the layout and the types that Petastorm has."""
    rows = []
    with Loader(dataset, batch_size=1) as loader:
        for batch in loader:
            rows.append({field.name: _as_stored(dataset, field.name, batch[field.name][0]) for field in dataset.schema})
    return rows


def _as_stored(dataset: Dataset, name: str, value: Any) -> Any:
    field = dataset.schema[name]
    if isinstance(value, str):
        return value
    tensor = torch.as_tensor(value)
    if isinstance(field, ImageField):  # channels first in a batch
        tensor = tensor.permute(1, 2, 0) if len(field.item_shape) == 3 else tensor[0]
    return tensor.numpy().astype(field.numpy_dtype)


def by_petastorm(dataset: Dataset) -> list[dict[str, Any]]:
    petastorm = pytest.importorskip("petastorm", reason="stock Petastorm does not run beside this pyarrow")
    with petastorm.make_reader(f"file://{dataset.url}", reader_pool_type="dummy", num_epochs=1) as reader:
        return [row._asdict() for row in reader]


def assert_equal_everywhere(dataset: Dataset, expected: Iterable[Mapping[str, Any]]) -> None:
    wanted = multiset(expected)
    assert sum(wanted.values()) == dataset.rows > 0
    assert multiset(by_loader(dataset)) == wanted
    assert multiset(by_petastorm(dataset)) == wanted


# --- sound ---


def wav(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, values, 8000, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def clip(values: np.ndarray) -> np.ndarray:
    return np.pad(values, (0, max(0, 8000 - len(values))))[:8000]


def digits_of(folder: Path, dataset: Dataset) -> list[dict[str, Any]]:
    """What each file of spoken digits should become; of equal files the first."""
    info, seen = dataset.info(), {}
    for path in sorted(folder.glob("*.wav")):
        seen.setdefault(path.read_bytes(), path)
    rows = []
    for path in seen.values():
        digit, speaker, _ = path.stem.split("_")
        row = {"label": np.int64(info["label"].classes.index(digit))}
        row["speaker"] = np.int64(info["speaker"].classes.index(speaker))
        rows.append({**row, "sound": clip(soundfile.read(path, dtype="int16")[0])})
    return rows


def test_sound_comes_back_with_the_labels_of_its_name(publish, tmp_path):
    rng = np.random.default_rng(0)
    lengths = [3000, 8000, 11_000]
    files = {
        f"{digit}_{speaker}_{n}.wav": wav(rng.integers(-32768, 32768, lengths[n]).astype(np.int16))
        for digit in (0, 2, 10)
        for speaker in ("ada", "bob")
        for n in range(3)
    }
    folder = fill(tmp_path / "in", {**files, "0_ada_9.wav": files["0_ada_0.wav"][:-200], "noise.wav": wav(np.ones(9))})
    pattern = r"^(?P<label>\d+)_(?P<speaker>[a-z]+)_"
    overrides = {"source.path": str(folder), "source.labels_from_name": f"'{pattern}'"}
    dataset = publish("spoken_digits", **overrides)
    assert dataset.manifest.rejects == {"corrupt": 1, "no-label": 1}
    info = dataset.info()
    assert info["label"].classes == ("0", "2", "10") and info["speaker"].classes == ("ada", "bob")
    assert (info["sound"].rate, info["sound"].shape, info["sound"].dtype) == (8000, (8000,), "int16")
    for name in ("0_ada_9.wav", "noise.wav"):
        (folder / name).unlink()
    assert_equal_everywhere(dataset, digits_of(folder, dataset))


def test_the_spoken_digits_come_back(publish, shared_data):
    folder = shared_data / "spoken-digits"
    dataset = publish("spoken_digits", **{"source.path": str(folder)})
    assert dataset.manifest.counts["read"] == 1500 and dataset.manifest.counts["rejected"] == 0
    assert dataset.info().num_classes("label") == 10 and dataset.info().num_classes("speaker") == 3
    assert_equal_everywhere(dataset, digits_of(folder, dataset))


# --- label maps ---


def test_label_maps_and_photos_come_back_as_pairs(publish, tmp_path):
    rng = np.random.default_rng(0)
    maps = {f"{n}.png": rng.integers(0, 12, (30, 40), dtype=np.uint8) for n in range(6)}
    photos = {name: image(int(name[0]), 30, 40) for name in maps}
    fill(tmp_path / "labels", {name: file_of(classes) for name, classes in maps.items()})
    fill(tmp_path / "photos", {name: file_of(pixels) for name, pixels in photos.items()})
    fill(tmp_path / "labels", {"bad.png": file_of(np.full((30, 40), 12, np.uint8))})
    fill(tmp_path / "photos", {"bad.png": file_of(image(99, 30, 40))})
    paths = {"source.input": f"{tmp_path}/labels", "source.target": f"{tmp_path}/photos"}
    dataset = publish("label_maps", **paths, patches="{kind: whole}", storage="{kind: png}")
    assert dataset.manifest.rejects == {"unknown-class": 1}
    assert dataset.info()["input"].classes[3] == "road" and dataset.info()["target"].classes == ()
    assert_equal_everywhere(dataset, [{"input": maps[name], "target": photos[name]} for name in maps])


def test_patches_of_a_label_map_lie_where_those_of_the_photo_lie(publish, tmp_path):
    """The photo is drawn from its labels, so that each patch of it tells which labels belong to it."""
    maps = {f"{n}.png": np.random.default_rng(n).integers(0, 12, (50, 60), dtype=np.uint8) for n in range(4)}
    photos = {name: np.stack([classes * 20, 255 - classes, classes], axis=2) for name, classes in maps.items()}
    fill(tmp_path / "labels", {name: file_of(classes) for name, classes in maps.items()})
    fill(tmp_path / "photos", {name: file_of(pixels) for name, pixels in photos.items()})
    paths = {"source.input": f"{tmp_path}/labels", "source.target": f"{tmp_path}/photos"}
    dataset = publish("label_maps", **paths, **{"patches.side": "16", "storage": "{kind: png}"})
    rows = list(dataset.read_rows())
    assert len(rows) == 16
    for row in rows:
        assert np.array_equal(row["target"][:, :, 0], row["input"] * 20)


def test_camvids_label_maps_and_photos_come_back(publish, shared_data, tmp_path):
    names = sorted(path.stem for path in (shared_data / "camvid" / "labels").iterdir())[::12]
    for part, suffix in (("labels", "png"), ("photos", "jpg")):
        (tmp_path / part).mkdir()
        for name in names:
            (tmp_path / part / f"{name}.{suffix}").symlink_to(shared_data / "camvid" / part / f"{name}.{suffix}")
    paths = {"source.input": f"{tmp_path}/labels", "source.target": f"{tmp_path}/photos"}
    dataset = publish("label_maps", **paths, patches="{kind: whole}", storage="{kind: png}")
    expected = [
        {
            "input": decode_label_map((tmp_path / "labels" / f"{name}.png").read_bytes()).astype(np.uint8),
            "target": decode((tmp_path / "photos" / f"{name}.jpg").read_bytes()),
        }
        for name in names
    ]
    assert_equal_everywhere(dataset, expected)


# --- text ---

POEM = ["The cat sat.", "the dog sat, too", "", "  ", "A cat and a dog", "cat sat on the dog", "the end"]


def words(row: Mapping[str, Any], dataset: Dataset, name: str) -> list[str]:
    vocabulary = dataset.info()[name].vocabulary
    return [vocabulary[number] for number in row[name] if vocabulary[number] != "<pad>"]


def test_lines_come_back_as_the_words_of_their_vocabulary(publish, tmp_path):
    fill(tmp_path / "in", {"poem.txt": "\n".join(POEM).encode(), "latin1.txt": b"caf\xe9\nthe end of it"})
    overrides = {"medium.length": "10", "medium.min_count": "1"}
    dataset = publish("text_lines", **{"source.path": f"{tmp_path}/in"}, **overrides)
    assert dataset.manifest.rejects == {"not-utf8": 1} and dataset.manifest.counts["read"] == 7
    info = dataset.info()["tokens"]
    assert info.vocabulary[:4] == SPECIAL_TOKENS and info.vocabulary[4] == "the" and info.shape == (10,)
    expected = [
        ["<s>", "the", "cat", "sat", ".", "</s>"],
        ["<s>", "the", "dog", "sat", ",", "too", "</s>"],
        ["<s>", "a", "cat", "and", "a", "dog", "</s>"],
        ["<s>", "cat", "sat", "on", "the", "dog", "</s>"],
        ["<s>", "the", "end", "</s>"],
        ["<s>", "the", "end", "of", "it", "</s>"],
    ]
    numbers = {token: number for number, token in enumerate(info.vocabulary)}
    rows = [[numbers[token] for token in line] + [0] * (10 - len(line)) for line in expected]
    assert_equal_everywhere(dataset, [{"tokens": np.array(row, np.int32)} for row in rows])
    with open(tmp_path / "in" / "poem.txt", "a") as file:
        file.write("\nthe zebra sat")
    again = publish("text_lines", **{"source.path": f"{tmp_path}/in"}, **overrides)
    assert again.manifest.source["read_before"] == 7 and again.rows == 7
    assert again.info()["tokens"].vocabulary == info.vocabulary, "numbers keep their meaning"
    assert ["<s>", "the", "<unk>", "sat", "</s>"] in [words(row, again, "tokens") for row in again.read_rows()]


def test_captions_become_tokens_of_their_own_lengths_beside_their_images(publish, tmp_path):
    captions = {"1": "a red cat", "2": "a blue dog and a cat", "3": "   "}
    files = {f"{n}.png": file_of(image(int(n), 64, 64)) for n in captions}
    fill(tmp_path / "in", {**files, **{f"{n}.txt": text.encode() for n, text in captions.items()}})
    tokens = "{caption: {kind: tokens, level: character, mark_ends: false}}"
    dataset = publish(
        "rgba",
        **{"source.path": f"{tmp_path}/in", "source.kind": "captioned_folder", "media": tokens},
        **{"medium.channels": "rgb", "storage.kind": "png"},
    )
    assert dataset.manifest.rejects == {"empty": 1}
    vocabulary = dataset.info()["caption"].vocabulary
    assert set(vocabulary) - set(SPECIAL_TOKENS) == set("a red cat blue dog and a cat")
    expected = [
        {
            "image": image(int(n), 64, 64),
            "caption": np.array([vocabulary.index(c) for c in captions[n]], np.int32),
        }
        for n in ("1", "2")
    ]
    assert_equal_everywhere(dataset, expected)


# --- arrays ---


def test_voxels_come_back_with_their_class(publish, tmp_path):
    files: dict[str, bytes] = {}
    expected = []
    for label, name in enumerate(("chair", "table")):
        for n in range(3):
            shape = (np.random.default_rng((label, n)).random((32, 32, 32)) < 0.1).astype(np.uint8)
            buffer = io.BytesIO()
            np.save(buffer, shape.astype(bool) if n else shape)
            files[f"{name}/{n}.npy"] = buffer.getvalue()
            expected.append({"array": shape, "label": np.int64(label)})
    files["chair/broken.npy"] = files["chair/0.npy"][:-1]
    dataset = publish("voxels", **{"source.path": str(fill(tmp_path / "in", files))})
    assert dataset.manifest.rejects == {"corrupt": 1} and dataset.info()["label"].classes == ("chair", "table")
    assert_equal_everywhere(dataset, expected)


# --- images with all that they hold ---


@pytest.mark.parametrize("storage", ["array", "compressed_array"])
def test_alpha_comes_back(publish, tmp_path, storage):
    rng = np.random.default_rng(0)
    sprites = {f"{n}.png": rng.integers(0, 256, (64, 64, 4), dtype=np.uint8) for n in range(4)}
    fill(tmp_path / "in", {name: file_of(pixels) for name, pixels in sprites.items()})
    dataset = publish("rgba", **{"source.path": f"{tmp_path}/in", "storage.kind": storage})
    assert_equal_everywhere(dataset, [{"image": pixels} for pixels in sprites.values()])


def test_sixteen_bits_come_back(publish, tmp_path):
    rng = np.random.default_rng(0)
    scans = {f"{n}.png": rng.integers(0, 2**16, (64, 64), dtype=np.uint16) for n in range(4)}
    fill(tmp_path / "in", {name: file_of(pixels) for name, pixels in scans.items()})
    medium = "{kind: image, channels: grey, bits: 16}"
    dataset = publish("rgba", **{"source.path": f"{tmp_path}/in", "storage.kind": "png", "medium": medium})
    assert_equal_everywhere(dataset, [{"image": pixels} for pixels in scans.values()])


# --- any medium from any source ---


def test_sounds_in_tar_shards_texts_in_a_table_and_arrays_in_a_manifest(spark, run, tmp_path):
    tones = {n: np.random.default_rng(n).integers(-9000, 9000, 50).astype(np.int16) for n in range(3)}
    (tmp_path / "shards").mkdir()
    with tarfile.open(tmp_path / "shards" / "a.tar", "w") as shard:
        for n, values in tones.items():
            for suffix, content in (("wav", wav(values)), ("cls", str(n).encode()), ("txt", b"a word")):
                member = tarfile.TarInfo(f"{n}.{suffix}")
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
    source = {"kind": "tar", "path": f"{tmp_path}/shards", "fields": {"label": "int64", "caption": "str"}}
    names = {"label": ["zero", "one", "two"]}
    sounds = run(source, output_name="sounds", medium={"kind": "sound", "rate": 8000, "samples": 50}, classes=names)
    assert sounds.info().num_classes("label") == 3
    assert_equal_everywhere(sounds, [{"sound": tones[n], "label": np.int64(n), "caption": "a word"} for n in tones])
    frame = spark.createDataFrame([("1", bytearray(b"a b")), ("2", bytearray(b"b"))], "id string, content binary")
    frame.write.parquet(f"{tmp_path}/table")
    tokens = {"kind": "tokens", "mark_ends": False, "length": 2}
    texts = run({"kind": "table", "path": f"{tmp_path}/table", "name": "id"}, output_name="texts", medium=tokens)
    assert_equal_everywhere(texts, [{"tokens": np.array(row, np.int32)} for row in ([5, 4], [4, 0])])
    rolls = {f"{n}.npy": np.full((4, 8), n, np.float32) for n in range(3)}
    for name, roll in rolls.items():
        np.save(tmp_path / name, roll)
    (tmp_path / "list.csv").write_text("path\n" + "\n".join([*rolls, "absent.npy"]))
    array = {"kind": "array", "dtype": "float32", "shape": [4, None]}
    arrays = run({"kind": "manifest", "path": f"{tmp_path}/list.csv"}, output_name="arrays", medium=array)
    assert arrays.manifest.rejects == {"unreadable": 1} and arrays.info()["array"].shape == (4, None)
    assert multiset(arrays.read_rows()) == multiset({"array": roll} for roll in rolls.values())


def test_a_label_that_no_class_has_is_a_reject(run, tmp_path):
    (tmp_path / "list.csv").write_text("path,label\n1.png,1\n2.png,2\n3.png,-1")
    fill(tmp_path, {f"{n}.png": file_of(image(n)) for n in (1, 2, 3)})
    source = {"kind": "manifest", "path": f"{tmp_path}/list.csv", "fields": {"label": "int64"}}
    dataset = run(source, output_name="faces", classes={"label": ["left", "right"]})
    assert dataset.manifest.rejects == {"bad-field": 2} and [row["label"] for row in dataset.read_rows()] == [1]


@pytest.mark.parametrize(
    "values, words",
    [
        ({"media": {"caption": {"kind": "tokens"}}}, r"media\.caption fits nothing in the source: it has image"),
        ({"classes": {"label": ["a"]}}, r"classes\.label names no field of whole numbers"),
        ({"labels": "no(?P<label>.)such"}, r"fits no name in the source"),
        ({"labels": "(?P<image>.)"}, r"The field image would hold the samples' content"),
    ],
)
def test_settings_that_do_not_suit_the_source_are_one_clear_sentence(run, tmp_path, values, words):
    fill(tmp_path / "in", {"1.png": file_of(image(1))})
    source = {"kind": "folder", "path": f"{tmp_path}/in", "labels_from_name": values.pop("labels", None)}
    with pytest.raises(UserError, match=words):
        run(source, output_name="dataset", **values)
