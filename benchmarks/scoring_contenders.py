"""Who runs in benchmarks/scoring.py: each enlarges all images of a :class:`Work`, on two cores.

A contender gets itself ready (session, imports, whatever it starts once) and returns the function that is timed: from
the files to their results on the disk. All have the same net, and PNG by the same encoder and settings. Those that
know nothing of tiles run the net on whole images.

All but the bare forward in float32 compute in bfloat16, channels last, where the CPU has units for it: ours and
``spark_udf`` (whose pyfunc is ours) by themselves, the others by the two lines of torch that their users would write
(:func:`in_best_precision`), and OpenVINO by its precision hint.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from contender import CORES
from scoring_work import MODEL, SCALE, Work
from torch import Tensor

from gan_lib.core.allocator import keep_freed_memory
from gan_lib.core.images import decode, encode_png
from gan_lib.core.precision import dtype_of
from gan_lib.export.artifact import Artifact, to_images, to_values
from gan_lib.export.ports import Image
from gan_lib.nets.layout import set_layout

Timed = Callable[[], None]
IMAGES_PER_BATCH = 16
TASKS = 8 * CORES  # as many as our own job makes of a folder
TILE, TILE_PAD = 512, 10
FIXED_TILE = 128  # of the sizes between 84 and 512 the one with the least to compute: 1.7 times these photos' pixels
RGB = Image()  # the port of the net that all run
Net = Callable[[Tensor], Tensor]
_held: list[tuple[Net, list[Tensor]]] = []  # in a process that forwards: its net, and all images
_served: list[Net] = []  # in a process that enlarges files


def in_best_precision(net: torch.nn.Module) -> Net:
    """``net`` under autocast to bfloat16 and channels last, where the CPU has units for it; else as it is."""
    dtype = dtype_of("auto", torch.device("cpu"))
    if dtype == torch.float32:
        return net
    set_layout(net)

    def run(values: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=dtype):
            return net(values)

    return run


def ours(work: Work) -> Timed:
    """gan_lib's job: what spark-submit jobs/score.py does once the session is up."""
    from gan_lib.scoring.batch import score
    from gan_lib.scoring.model import fetch
    from gan_lib.scoring.settings import ScoreSettings

    spark = _session()
    uri = f"models:/{MODEL}@champion"
    settings = ScoreSettings.model_validate(
        {"model": uri, "input": {"folder": str(work.images)}, "output": {"url": str(work.output)}}
    )
    model = fetch(spark, uri, work.tracking)

    def run() -> None:
        summary = score(spark, model, settings, "benchmark")
        assert summary.rejected == 0, summary

    return run


def spark_udf(work: Work) -> Timed:
    """``mlflow.pyfunc.spark_udf`` on the same registered model, whose pyfunc answers in base64 of PNG; Parquet out."""
    import mlflow

    from gan_lib.scoring.udf import limit_batches

    spark = _session()
    limit_batches(spark)  # with Spark's 10,000 rows in a batch it does not fit into memory
    mlflow.set_tracking_uri(str(work.tracking.uri))
    struct = "content string, width long, height long, error string"
    enlarge = mlflow.pyfunc.spark_udf(spark, f"models:/{MODEL}@champion", struct, env_manager="local")

    def run() -> None:
        files = spark.read.format("binaryFile").load(str(work.images))
        results = files.repartition(TASKS).select("path", enlarge("content").alias("result"))
        results.write.parquet(str(work.output))

    return run


def tile_loop(work: Work) -> Timed:
    """One image and one tile after the other, as the best known tools do (Real-ESRGAN: ``tile_pad=10``)."""
    torch.set_num_threads(CORES)
    net = in_best_precision(Artifact.load(work.artifact).net)

    def run() -> None:
        work.output.mkdir()
        for path in work.paths():
            _enlarge_file(partial(_by_tiles, net), work.output, path)

    return run


@torch.inference_mode()
def _enlarge_file(enlarge: Net, output: Path, path: Path) -> None:
    values = to_values(torch.from_numpy(decode(path.read_bytes())).permute(2, 0, 1)[None], RGB)
    result = to_images(enlarge(values), RGB)[0].permute(1, 2, 0).numpy()
    (output / f"{path.stem}.png").write_bytes(encode_png(result))


def _by_tiles(net: Net, values: Tensor) -> Tensor:
    height, width = values.shape[-2:]
    scale = SCALE
    result = values.new_zeros(1, 3, height * scale, width * scale)
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            bottom, right = min(top + TILE, height), min(left + TILE, width)
            first, start = max(top - TILE_PAD, 0), max(left - TILE_PAD, 0)
            seen = values[..., first : min(bottom + TILE_PAD, height), start : min(right + TILE_PAD, width)]
            core = net(seen)[..., (top - first) * scale :, (left - start) * scale :]
            part = result[..., top * scale : bottom * scale, left * scale : right * scale]
            part.copy_(core[..., : part.shape[-2], : part.shape[-1]])
    return result


class Enlarger:
    """The class that Ray's and Daft's documentation has for a model: loaded once, then called with batches."""

    def __init__(self, folder: str) -> None:
        torch.set_num_threads(1)
        self.net = in_best_precision(Artifact.load(folder).net)

    def enlarge(self, images: Any) -> list[bytes]:
        """(H, W, 3) uint8 each -> PNG each. Images of different sizes do not fit into one tensor."""
        return [self._enlarge(np.asarray(image)) for image in images]

    @torch.inference_mode()
    def _enlarge(self, image: np.ndarray) -> bytes:
        values = to_values(torch.from_numpy(np.array(image)).permute(2, 0, 1)[None], RGB)
        return encode_png(to_images(self.net(values), RGB)[0].permute(1, 2, 0).numpy())


def ray(work: Work) -> Timed:
    """Ray Data: ``read_images``, ``map_batches`` with a pool of actors, ``write_parquet``."""
    os.environ["RAY_DISABLE_PYARROW_VERSION_CHECK"] = "1"  # it asks for 17; stock Petastorm, in this set, ends at 14
    import ray

    class RayEnlarger(Enlarger):
        def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
            return {"path": batch["path"], "content": self.enlarge(batch["image"])}

    ray.init(num_cpus=CORES, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False

    def run() -> None:
        images = ray.data.read_images(str(work.images), mode="RGB", include_paths=True)
        # Half a core each: the reading must find a free one, or nothing ever starts.
        pool = ray.data.ActorPoolStrategy(size=CORES)
        arguments = {"fn_constructor_args": [str(work.artifact)], "batch_size": IMAGES_PER_BATCH}
        images.map_batches(RayEnlarger, compute=pool, num_cpus=0.5, **arguments).write_parquet(str(work.output))

    return run


def daft(work: Work) -> Timed:
    """Daft: ``download``, ``decode_image``, a batch method of a class, ``write_parquet``."""
    import daft

    @daft.cls(max_concurrency=CORES, use_process=True)
    class DaftEnlarger(Enlarger):
        @daft.method.batch(return_dtype=daft.DataType.binary(), batch_size=IMAGES_PER_BATCH)
        def results(self, images: daft.Series) -> list[bytes]:
            return self.enlarge(images.to_pylist())

    def run() -> None:
        files = daft.from_glob_path(f"{work.images}/*.jpg")
        images = files.with_column("image", daft.col("path").download().decode_image(mode="RGB"))
        enlarged = images.with_column("content", DaftEnlarger(str(work.artifact)).results(daft.col("image")))
        enlarged.select("path", "content").write_parquet(str(work.output))

    return run


def openvino_in_threads(work: Work) -> Timed:
    """OpenVINO with the bfloat16 hint in a loop of tiles of one size: one process of two threads."""
    work.output.mkdir()

    def run() -> None:
        net = _openvino(work.artifact, CORES)
        for path in work.paths():
            _enlarge_file(net, work.output, path)

    return run


def openvino_in_processes(work: Work) -> Timed:
    """The same loop in two processes of one thread, each of which takes the next file."""
    import openvino  # noqa: F401  # before the clock starts, as all contenders import

    work.output.mkdir()

    def run() -> None:
        with ProcessPoolExecutor(CORES, get_context("fork"), partial(_serve_openvino, work.artifact)) as pool:
            list(pool.map(partial(_enlarge_by_served, work.output), work.paths()))

    return run


def _serve_openvino(artifact: Path) -> None:
    torch.set_num_threads(1)
    _served.append(_openvino(artifact, 1))


def _enlarge_by_served(output: Path, path: Path) -> None:
    _enlarge_file(_served[0], output, path)


def _openvino(artifact: Path, threads: int) -> Net:
    """What enlarges an image by the net compiled for tiles of one size.

    Compiled for any size, it takes seconds for the first image of each, and here nearly every image has its own.
    """
    import openvino

    keep_freed_memory()
    example = torch.zeros(1, 3, FIXED_TILE, FIXED_TILE)
    with torch.no_grad():
        model = openvino.convert_model(Artifact.load(artifact).net, example_input=example, input=[list(example.shape)])
    hints = {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    request = openvino.Core().compile_model(model, "CPU", hints).create_infer_request()

    def net(tile: Tensor) -> Tensor:
        return torch.from_numpy(request.infer([tile.contiguous().numpy()])[0])

    return partial(_by_fixed_tiles, net)


def _by_fixed_tiles(net: Net, values: Tensor) -> Tensor:
    """Tiles that overlap by two pads or more; an image smaller than a tile is continued by its edge."""
    height, width = values.shape[-2:]
    missing = max(FIXED_TILE - height, 0), max(FIXED_TILE - width, 0)
    padded = F.pad(values, (0, missing[1], 0, missing[0]), "replicate")
    result = values.new_zeros(1, 3, *(side * SCALE for side in padded.shape[-2:]))
    for top, left in product(*(_starts(side) for side in padded.shape[-2:])):
        made = net(padded[..., top : top + FIXED_TILE, left : left + FIXED_TILE])
        kept = [TILE_PAD * SCALE if start else 0 for start in (top, left)]
        part = result[..., top * SCALE : (top + FIXED_TILE) * SCALE, left * SCALE : (left + FIXED_TILE) * SCALE]
        part[..., kept[0] :, kept[1] :] = made[..., kept[0] :, kept[1] :]
    return result[..., : height * SCALE, : width * SCALE]


def _starts(side: int) -> list[int]:
    count = 1 + -(-(side - FIXED_TILE) // (FIXED_TILE - 2 * TILE_PAD))
    return [number * (side - FIXED_TILE) // max(count - 1, 1) for number in range(count)]


def forward_in_threads(work: Work) -> Timed:
    """The bare forward: decoded pixels in memory, one whole image after the other, one process of two threads."""
    return _forward_all(Artifact.load(work.artifact).net, _decoded(work))


def _forward_all(net: Net, values: list[Tensor]) -> Timed:
    torch.set_num_threads(CORES)

    @torch.inference_mode()
    def run() -> None:
        for batch in values:
            net(batch)

    return run


def forward_in_processes(
    work: Work, prepare: Callable[[], None] = lambda: None, serve: Callable[[torch.nn.Module], Net] = lambda net: net
) -> Timed:
    """The bare forward in two processes of one thread."""
    values = _decoded(work)

    def start() -> None:
        prepare()
        torch.set_num_threads(1)
        _held.append((serve(Artifact.load(work.artifact).net), values))

    pool = ProcessPoolExecutor(CORES, get_context("fork"), start)
    list(pool.map(_forward, range(CORES)))

    def run() -> None:
        list(pool.map(_forward, range(len(values))))
        pool.shutdown()

    return run


def forward_keeping_memory(work: Work) -> Timed:
    """The same with our setting of the C library's allocator."""
    return forward_in_processes(work, keep_freed_memory)


def best_forward_in_processes(work: Work) -> Timed:
    """The same in bfloat16 and channels last besides: what is left to lose for us."""
    return forward_in_processes(work, keep_freed_memory, in_best_precision)


def best_forward_in_threads(work: Work) -> Timed:
    """The best in one process of two threads."""
    values = _decoded(work)
    keep_freed_memory()
    return _forward_all(in_best_precision(Artifact.load(work.artifact).net), values)


@torch.inference_mode()
def _forward(index: int) -> None:
    net, values = _held[0]
    net(values[index])


def _decoded(work: Work) -> list[Tensor]:
    images = (torch.from_numpy(decode(path.read_bytes())).permute(2, 0, 1)[None] for path in work.paths())
    return [to_values(image, RGB).contiguous() for image in images]


def _session() -> Any:
    from gan_lib.cluster.session import spark_session

    os.environ["PYSPARK_PYTHON"] = sys.executable
    quiet = {"spark__ui__enabled": "false", "spark__ui__showConsoleProgress": "false"}
    return spark_session("benchmark", spark__master=f"local[{CORES}]", spark__driver__memory="2g", **quiet)


CONTENDERS: dict[str, Callable[[Work], Timed]] = {
    "ours": ours,
    "forward, 1 process of 2 threads": forward_in_threads,
    "forward, 2 processes of 1 thread": forward_in_processes,
    "the same, keeping freed memory": forward_keeping_memory,
    "forward bf16 channels_last, 1 process": best_forward_in_threads,
    "forward bf16 channels_last, 2 processes": best_forward_in_processes,
    "openvino bf16, 1 process": openvino_in_threads,
    "openvino bf16, 2 processes": openvino_in_processes,
    "spark_udf": spark_udf,
    "tile loop": tile_loop,
    "ray": ray,
    "daft": daft,
}
