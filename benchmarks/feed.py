"""What caching decoded rows brings to a real training: the same training with and without it, in turn.

    python benchmarks/feed.py --data ../shared/data

The demo's net learns from JPEGs of 256x256 and a small DCGAN from JPEGs of 64x64, each on one thread, with one thread
to decode, for some seconds and so for several epochs, of which the first fills the cache. The figures are those that
the training itself reports; medians are compared. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from loader_workloads import crops

from gan_lib.core import config
from gan_lib.dataset.manifest import write_common_metadata
from gan_lib.dataset.schema import JpegField, Schema
from gan_lib.training.loop import train
from gan_lib.training.settings import TrainSettings
from gan_lib.training.tracker import SilentTracker

ROWS, ROWS_OF_A_GROUP = 192, 16
MANY = 10**9  # images: the time ends the training


@dataclass(frozen=True)
class Case:
    """A training, and the side of the images that it reads."""

    recipe: dict[str, Any]
    side: int
    batch_size: int


CASES = {
    "srresnet": Case({"name": "srresnet", "scale": 4, "base_channels": 32, "blocks": 6}, 256, 16),
    "dcgan": Case({"name": "dcgan", "size": 64, "base_channels": 8}, 64, 64),
}


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of photos")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each training")
    options = parser.parse_args()
    torch.set_num_threads(1)
    summary = {}
    print(f"{'recipe':12}{'not cached':>12}{'cached':>10}{'ratio':>8}   images/s")
    with tempfile.TemporaryDirectory(prefix="gan_lib-feed-") as folder:
        for name, case in CASES.items():
            url = publish(options.data, Path(folder, name), case.side)
            rates: dict[str, list[float]] = {"none": [], "auto": []}
            for number in range(options.rounds):
                for kind, measured in rates.items():
                    measured.append(
                        images_per_second(case, url, Path(folder, f"{name}-{kind}-{number}"), kind, options)
                    )
            none, auto = (statistics.median(measured) for measured in rates.values())
            print(f"{name:12}{none:12.1f}{auto:10.1f}{auto / none:8.3f}", flush=True)
            summary[f"{name}_cached_over_not"] = round(auto / none, 3)
    print(json.dumps(summary))


def publish(data: Path, folder: Path, side: int) -> str:
    """Write a dataset of square patches of photos; its URL."""
    schema = Schema("Patches", (JpegField("image", (side, side, 3), 95),))
    rows = [schema.encode({"image": image}) for image in crops(side)(data, ROWS)]
    folder.mkdir()
    table = pa.Table.from_pylist(rows, schema=schema.arrow_schema())
    pq.write_table(table, folder / "part-0.parquet", row_group_size=ROWS_OF_A_GROUP, compression="none")
    write_common_metadata(str(folder), schema, {"part-0.parquet": -(-ROWS // ROWS_OF_A_GROUP)})
    return str(folder)


def images_per_second(case: Case, url: str, folder: Path, cache: str, options: argparse.Namespace) -> float:
    """Of one training from its beginning, as it reports them."""
    values = {
        "recipe": case.recipe,
        "data": {"url": url, "threads": 1, "cache": {"kind": cache}},
        "training": {"images": MANY, "stop_after": options.seconds, "batch_size": case.batch_size, "threads": 1},
        "checkpoint": {"folder": str(folder), "every": MANY},
        "report": {"metrics": MANY, "samples": MANY},
    }
    settings = config.validate(TrainSettings, values, "the benchmark")
    return float(train(settings, 0, 1, torch.device("cpu"), SilentTracker())["images_per_second"])


if __name__ == "__main__":
    main()
