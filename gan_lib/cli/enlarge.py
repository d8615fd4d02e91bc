"""``gan-lib enlarge PATH... --output FOLDER``: photos made larger on this machine."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, get_args

from gan_lib.core.config import validate
from gan_lib.core.errors import MachineInTrouble, StoreUnavailable, TooManyRejects, UserError
from gan_lib.core.precision import Precision

MODELS = {"gan": "shipped:enlarger-gan", "pixels": "shipped:enlarger-pixels"}
"""Short names of models."""
_DESCRIPTION = """Make photos larger, by a net that comes with the package or one of yours. Run it again, and what is
done is kept. Exit codes: 0 all well, 1 the machine or a store is in trouble, 2 the request was wrong, 3 done, but some
files were no photos."""


class Stopped(UserError):
    """The machine or a store is in trouble; what is done is done."""

    exit_code = 1


def main(argv: Sequence[str] | None = None) -> None:
    """Enlarge what the command line names, and say what became of it."""
    parsed = _parser().parse_args(argv)
    from gan_lib.enlarging.enlarge import enlarge  # imports torch, which --help need not wait for
    from gan_lib.enlarging.settings import EnlargeSettings

    settings = validate(EnlargeSettings, _values(parsed), source="gan-lib enlarge")
    with ExitStack() as stack:
        try:
            outcome = enlarge(parsed.paths, settings, begin=lambda photos: _shown(photos, stack))
        except (MachineInTrouble, StoreUnavailable) as error:
            raise Stopped(f"{error}. What is done is kept: run the same command again.") from None
    kept = f", {outcome.kept} were there already" if outcome.kept else ""
    precisions = ", ".join(f"{count} in {precision}" for precision, count in outcome.precisions.items())
    computed = f" ({outcome.megapixels:.1f} megapixels, {precisions})" if outcome.enlarged else ""
    print(f"{outcome.enlarged} photos enlarged{computed}{kept}: {parsed.output}")
    if outcome.rejected:
        raise TooManyRejects("\n".join([f"{len(outcome.rejected)} files have no result.", *outcome.rejected]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("gan-lib enlarge", description=_DESCRIPTION)
    parser.add_argument("paths", nargs="+", metavar="PATH", help="a photo, or a folder of photos at any depth")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="where the results go, by the same names")
    parser.add_argument("--scale", type=float, help="such as 2.5; default: the model's own, 4 for those of the package")
    parser.add_argument(
        "--model",
        default="gan",
        help="gan (sharp, invents texture), pixels (true to every pixel, smoother), models:/NAME@ALIAS of MLflow's "
        "registry, or the folder of an artifact or a training; default: gan",
    )
    parser.add_argument(
        "--interpolation",
        type=float,
        metavar="ALPHA",
        help="a net between two: 1 is --model alone, 0 the one of --interpolation-with; 0.8 has fewer artefacts",
    )
    parser.add_argument("--interpolation-with", default="pixels", metavar="MODEL", help="default: pixels")
    parser.add_argument("--format", choices=("png", "jpeg", "webp", "tiff"), default="png", help="default: png")
    parser.add_argument("--quality", type=int, default=92, metavar="1-100", help="of JPEG and WebP; default: 92")
    parser.add_argument("--precision", choices=get_args(Precision), default="auto", help="default: auto, the fastest")
    return parser


def _values(parsed: argparse.Namespace) -> dict[str, Any]:
    other = MODELS.get(parsed.interpolation_with, parsed.interpolation_with)
    alpha = parsed.interpolation
    return {
        "output": parsed.output,
        "model": MODELS.get(parsed.model, parsed.model),
        "interpolation": None if alpha is None else {"model": other, "alpha": alpha},
        "encoding": {"format": parsed.format, "quality": parsed.quality},
        "tiling": {"precision": parsed.precision, "scale": parsed.scale},
    }


def _shown(photos: int, stack: ExitStack) -> Callable[[], object]:
    """A progress bar, until ``stack`` is left; call what is given for each photo."""
    from gan_lib.core.progress_bar import progress_bar

    return stack.enter_context(progress_bar(photos, "photos", "enlarging")).update
