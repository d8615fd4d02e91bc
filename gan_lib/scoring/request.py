"""One image on its way through the pipeline, and what its failure means: a reason, or the end of the job."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from gan_lib.core.errors import MachineInTrouble, Rejected, StoreUnavailable
from gan_lib.core.stores.failures import problem_of
from gan_lib.scoring.inputs.photos import NOTHING_KEPT, Kept
from gan_lib.scoring.predictor import OutOfMemory
from gan_lib.scoring.tiling.canvas import Canvas


@dataclass
class Request:
    """One image on its way through the pipeline; ``reason`` is set once it has failed."""

    key: str
    read: Callable[[], bytes]
    """Gives the encoded image."""
    read_beside: Callable[[], Mapping[str, Any]] = dict
    """Gives what goes into the net beside the image, see :func:`gan_lib.scoring.inputs.decoders.columns_beside`."""
    tag: Any = None
    """The caller's own, e.g. where the result goes."""
    content: bytes = b""
    beside: Mapping[str, Any] = field(default_factory=dict)
    decoded_bytes: int = 0
    """What the pixels will take, as their headers promise."""
    inputs: dict[str, NDArray] = field(default_factory=dict)
    """Decoded, see :meth:`gan_lib.scoring.inputs.decoders.InputDecoder.decode`."""
    kept: Kept = NOTHING_KEPT
    """What the net does not see of the image."""
    precision: str | None = None
    """Number format that its result is computed in."""
    canvas: Canvas | None = None
    tiles_left: int = 0
    result: Any = None
    """What the caller's ``finish`` made of the canvas."""
    height: int = 0
    """Of the result, in pixels."""
    width: int = 0
    skipped: bool = False
    """Read, and found to need no work."""
    reason: str | None = None
    message: str | None = None
    seconds: float = 0.0
    """Work spent on it: decoding, its part of the batches, encoding."""

    @property
    def settled(self) -> bool:
        """Whether nothing more is to be done."""
        return self.skipped or self.reason is not None

    def reject(self, reason: str, message: str) -> None:
        """Write down why there will be no result, and let go of what was there."""
        self.reason, self.message = reason, " ".join(message.split())[:500]
        self.release()

    def release(self) -> None:
        """Let go of pixels and canvas."""
        self.content, self.beside, self.inputs, self.kept = b"", {}, {}, NOTHING_KEPT
        if self.canvas is not None:
            self.canvas.close()
            self.canvas = None


def attempt(stage: Callable[[Request], None]) -> Callable[[Request], Request]:
    """``stage`` for requests that have not failed yet; its time is added up and its failure becomes the reason.

    What is the trouble of this machine or of a store, and no image's, ends the job.
    """

    def run(request: Request) -> Request:
        if request.settled:
            return request
        start = time.perf_counter()
        try:
            stage(request)
        except Rejected as error:
            request.reject(error.reason, error.message)
        except (OutOfMemory, MemoryError) as error:
            request.reject("out-of-memory", str(error))
        except Exception as error:  # one image's trouble, whatever it is, must not end the job
            end_job_if_in_trouble(error)
            request.reject("failed", f"{type(error).__name__}: {error}")
        request.seconds += time.perf_counter() - start
        return request

    return run


def end_job_if_in_trouble(error: Exception) -> None:
    """Raise what an error says of this machine or of a store; do nothing where it is one image's.

    Raises:
        MachineInTrouble: such as a full disk.
        StoreUnavailable: what was to be looked at or written there cannot be, for now.
    """
    if isinstance(error, MachineInTrouble | StoreUnavailable):
        raise error
    problem = problem_of(error, "scoring")
    if problem is not None:
        raise problem from error
