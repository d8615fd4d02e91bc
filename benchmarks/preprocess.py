"""How many images a second become patches: ours, Petastorm's documented recipe, img2dataset, and bare threads.

    python benchmarks/preprocess.py --data ../shared/data            # throughput, about ten minutes
    python benchmarks/preprocess.py --data ../shared/data --decoders # which decoder, and why
    python benchmarks/preprocess.py --data ../shared/data --duplicates   # near duplicates: recall, cost
    python benchmarks/preprocess.py --listing                        # a million files: time and memory

All contenders read the same folder of photos, cut one patch of 256x256 from each and store it as JPEG of quality 95 on
the same two cores, in turn, several times; medians are compared. Ours and Petastorm's share one warm Spark session.
Bare threads only read, decode, cut and encode: what is lost against them is the price of checks, hashes, statuses, the
global shuffle, the files and Spark. img2dataset runs where it is installed, or where ``IMG2DATASET_PYTHON``
names an interpreter that has it.
The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import preprocess_parts
from pyspark.sql import SparkSession

from gan_lib.cluster.session import spark_session
from gan_lib.core import config
from gan_lib.core.images import decode
from gan_lib.dataset.schema import JpegField
from gan_lib.preprocessing.cropping.crops import RandomCrops
from gan_lib.preprocessing.preprocess import preprocess
from gan_lib.preprocessing.settings import PreprocessSettings

CORES = 2
SIDE, QUALITY = 256, 95
PHOTO = (300, 460)  # shorter and longer side, in pixels: nearly all of a photo of BSDS500


def main() -> None:
    """Run what the command line asks for."""
    options = parse_arguments()
    if options.decoders:
        print(json.dumps(preprocess_parts.compare_decoders(options.data)))
    elif options.duplicates:
        print(json.dumps(preprocess_parts.measure_duplicates(options.data)))
    elif options.listing:
        print(json.dumps(preprocess_parts.measure_listing(new_session())))
    else:
        print(json.dumps(compare_throughput(options)))


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder that holds BSDS500")
    parser.add_argument("--photos", type=int, default=10_000, help="photos to cut from it")
    parser.add_argument("--rounds", type=int, default=3)
    for part in ("decoders", "duplicates", "listing"):
        parser.add_argument(f"--{part}", action="store_true")
    return parser.parse_args()


def new_session() -> SparkSession:
    """Spark on as many cores as every contender gets, with the compiler of conf/cluster/local.conf."""
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    options = {"spark__driver__memory": "2g", "spark__driver__extraJavaOptions": "-XX:TieredStopAtLevel=1"}
    options |= {"spark__ui__enabled": "false", "spark__ui__showConsoleProgress": "false"}
    return spark_session("benchmark", spark__master=f"local[{CORES}]", **options)


def compare_throughput(options: argparse.Namespace) -> dict[str, Any]:
    """Measure all contenders in turn and print the table."""
    spark = new_session()
    with tempfile.TemporaryDirectory(prefix="gan_lib-preprocess-") as folder:
        photos, few = Path(folder, "photos"), Path(folder, "few")
        make_photos(options.data, photos, options.photos)
        make_photos(options.data, few, 200)
        contenders: dict[str, Callable[[Path, Path], int]] = {
            "ours": partial(run_ours, spark),
            "petastorm recipe": partial(run_petastorm_recipe, spark),
            "bare threads (the limit)": run_bare_threads,
        }
        python = os.environ.get("IMG2DATASET_PYTHON") or (importlib.util.find_spec("img2dataset") and sys.executable)
        if python:
            contenders["img2dataset"] = partial(run_img2dataset, python)
        rates: dict[str, list[float]] = {name: [] for name in contenders}
        for number in range(options.rounds + 1):
            source = photos if number else few  # the first round warms up Java, the workers and the disk cache
            for name, run in contenders.items():
                rate = timed(run, source, Path(folder, "output"))
                if number:
                    rates[name].append(rate)
                    print(f"round {number}: {name}: {rate:.0f} images/s", file=sys.stderr, flush=True)
    return report({name: statistics.median(values) for name, values in rates.items()}, rates)


def report(medians: dict[str, float], rates: dict[str, list[float]]) -> dict[str, Any]:
    """Print the table; the JSON of the last line."""
    ours = medians["ours"]
    print(f"{'contender':28}{'images/s':>12}{'ours over it':>14}   all rounds")
    for name, rate in medians.items():
        print(f"{name:28}{rate:12.0f}{ours / rate:14.2f}   {', '.join(f'{each:.0f}' for each in rates[name])}")
    peer = medians.get("img2dataset")
    return {
        "over_petastorm_recipe": round(ours / medians["petastorm recipe"], 2),
        "over_img2dataset": round(ours / peer, 2) if peer else None,
        "over_limit": round(ours / medians["bare threads (the limit)"], 2),
        "images_per_second": {name: round(rate) for name, rate in medians.items()},
    }


def make_photos(data: Path, folder: Path, count: int) -> None:
    """Cut ``count`` different photos from BSDS500: another part and perhaps flipped, stored as JPEG of quality 92."""
    sources = sorted((data / "BSDS500").glob("t*/*.jpg"))
    if not sources:
        sys.exit(f"error: there is no BSDS500 in {data}; name its folder with --data.")
    rng = np.random.default_rng(0)
    for number in range(count):
        pixels = cv2.imread(str(sources[number % len(sources)]))
        height, width = PHOTO if pixels.shape[0] < pixels.shape[1] else PHOTO[::-1]
        top = rng.integers(0, pixels.shape[0] - height + 1)
        left = rng.integers(0, pixels.shape[1] - width + 1)
        cut = pixels[top : top + height, left : left + width, :]
        below = folder / f"{number % 16:02d}"
        below.mkdir(parents=True, exist_ok=True)
        flipped = cut[:, ::-1] if rng.random() < 0.5 else cut
        cv2.imwrite(str(below / f"{number:06d}.jpg"), flipped, [cv2.IMWRITE_JPEG_QUALITY, 92])


def timed(run: Callable[[Path, Path], int], source: Path, output: Path) -> float:
    """Images a second of one run, from the call to the last file on the disk."""
    shutil.rmtree(output, ignore_errors=True)
    started = time.perf_counter()
    written = run(source, output)
    rate = written / (time.perf_counter() - started)
    expected = sum(1 for _ in source.glob("*/*.jpg"))
    if written < 0.98 * expected:  # chance duplicates may be dropped
        raise RuntimeError(f"{run}: only {written} of {expected} images were written")
    return rate


def run_ours(spark: SparkSession, source: Path, output: Path) -> int:
    """The job's library call: listing, checks, duplicates, shuffle, metadata, commit."""
    values = {
        "source": {"kind": "folder", "path": str(source)},
        "output": str(output),
        "patches": {"kind": "random", "side": SIDE, "count": 1},
        "storage": {"kind": "jpeg", "quality": QUALITY},
    }
    published = preprocess(spark, config.validate(PreprocessSettings, values, "the benchmark"))
    return published.manifest.splits["train"].rows


def run_petastorm_recipe(spark: SparkSession, source: Path, output: Path) -> int:
    """As Petastorm's documentation generates a dataset: dict_to_spark_row in an RDD, written by Spark."""
    from petastorm.codecs import CompressedImageCodec
    from petastorm.etl.dataset_metadata import materialize_dataset
    from petastorm.unischema import Unischema, UnischemaField, dict_to_spark_row

    image = UnischemaField("image", np.uint8, (SIDE, SIDE, 3), CompressedImageCodec("jpeg", QUALITY), False)
    schema = Unischema("Patches", [image])

    def row(path: str) -> dict[str, np.ndarray]:
        pixels = cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)
        rng = np.random.default_rng(len(path))
        top, left = (rng.integers(0, size - SIDE + 1) for size in pixels.shape[:2])
        return {"image": np.ascontiguousarray(pixels[top : top + SIDE, left : left + SIDE])}

    paths = sorted(str(path) for path in source.glob("*/*.jpg"))
    url = f"file://{output}"
    with materialize_dataset(spark, url, schema, 32):
        rows = spark.sparkContext.parallelize(paths, 8 * CORES).map(row).map(lambda r: dict_to_spark_row(schema, r))
        spark.createDataFrame(rows, schema.as_spark_schema()).coalesce(CORES).write.mode("overwrite").parquet(url)
    return spark.read.parquet(url).count()


def run_bare_threads(source: Path, output: Path) -> int:
    """The same reading, decoding, cutting and encoding on as many threads as cores, and one file of it all."""
    cv2.setNumThreads(1)
    field = JpegField("image", (SIDE, SIDE, 3), QUALITY)
    cut = RandomCrops(kind="random", side=SIDE)

    def patch(path: Path) -> bytes:
        pixels = decode(path.read_bytes())
        top, left, *_ = cut.boxes(*pixels.shape[:2], np.random.default_rng(0))[0]
        return field.encode(pixels[top : top + SIDE, left : left + SIDE])

    with ThreadPoolExecutor(CORES) as pool:
        patches = list(pool.map(patch, sorted(source.glob("*/*.jpg"))))
    output.write_bytes(b"".join(patches))
    output.unlink()
    return len(patches)


def run_img2dataset(python: str, source: Path, output: Path) -> int:
    """img2dataset on file:// URLs, with its own process pool: one centre crop an image, in Parquet."""
    urls = source.parent / "urls.txt"
    urls.write_text("\n".join(f"file://{path}" for path in sorted(source.glob("*/*.jpg"))))
    script = (
        "import sys; from img2dataset import download; download(url_list=sys.argv[1], output_folder=sys.argv[2], "
        f"image_size={SIDE}, resize_mode='center_crop', resize_only_if_bigger=True, encode_quality={QUALITY}, "
        f"output_format='parquet', processes_count={CORES}, thread_count=4, number_sample_per_shard=1000, "
        "enable_wandb=False)"
    )
    environment = {**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1"}
    subprocess.run([python, "-c", script, str(urls), str(output)], check=True, capture_output=True, env=environment)
    return sum(json.loads(stats.read_text())["successes"] for stats in output.glob("*_stats.json"))


if __name__ == "__main__":
    main()
