"""One promotion of a model at a time, by a tag of the registered model: MLflow's registry has no compare-and-set.

This is Fischer's algorithm (Lamport, "A Fast Mutual Exclusion Algorithm", 1987, section 2): wait until nobody claims,
write one's own claim, wait longer than a write takes, and go on only where the claim is still one's own. It rests on
times, so each process watches its own: whoever took too long from the look to the end of the write starts over, and
whoever held the claim too long must not move anything. What is left is one call of MLflow, the one that sets the alias,
that is under way for longer than ``ABANDONED_AFTER`` looks of another process.

A claim whose owner was killed is passed over by whoever saw it unchanged that often. Looks are counted and not seconds,
so neither clocks nor a registry that was away matter.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gan_lib.tracking.store import TrackingError

if TYPE_CHECKING:
    from mlflow import MlflowClient

CLAIM_TAG = "gan_lib_promotion_claim"
SETTLE_SECONDS = 2.0
HOLD_SECONDS = 30.0
"""Longest time from the claim to the last thing that is moved; another process is more patient than that."""
POLL_SECONDS = 0.5
ABANDONED_AFTER = 120
"""Looks at a claim that does not change."""
_ATTEMPTS = 20


@contextmanager
def claimed(client: MlflowClient, name: str) -> Iterator[Callable[[], None]]:
    """Be the only one who moves aliases of the model ``name`` for as long as the block runs: a few registry calls.

    Gives a function to call right before something is moved, which raises TrackingError where the claim is too old.

    Raises:
        TrackingError: others are always faster, or the registry is too slow.
    """
    own, since = _claim(client, name)

    def require_still_held() -> None:
        if time.monotonic() - since > HOLD_SECONDS:
            raise TrackingError(f"The registry is too slow to move aliases of {name} safely: run this one again.")

    try:
        yield require_still_held
    finally:
        _release(client, name, own)


def _claim(client: MlflowClient, name: str) -> tuple[str, float]:
    """A claim that all others see, and when it was begun."""
    for _attempt in range(_ATTEMPTS):
        since = _wait_for_others(client, name)
        own = uuid.uuid4().hex
        client.set_registered_model_tag(name, CLAIM_TAG, own)
        if time.monotonic() - since > SETTLE_SECONDS:  # someone who looked later may have settled and be inside
            _release(client, name, own)
            continue
        time.sleep(SETTLE_SECONDS)
        if _holder(client, name) == own:
            return own, since
    raise TrackingError(f"Other promotions of {name} are always under way, or the registry is slow: run it again.")


def _release(client: MlflowClient, name: str, own: str) -> None:
    if _holder(client, name) == own:
        client.delete_registered_model_tag(name, CLAIM_TAG)


def _wait_for_others(client: MlflowClient, name: str) -> float:
    """Return once nobody claims the model, or whoever does has been silent for too long: when the last look began."""
    looked = time.monotonic()
    holder, seen = _holder(client, name), 0
    while holder is not None and seen < ABANDONED_AFTER:
        time.sleep(POLL_SECONDS)
        looked = time.monotonic()
        before, holder = holder, _holder(client, name)
        seen = seen + 1 if holder == before else 0
    return looked


def _holder(client: MlflowClient, name: str) -> str | None:
    return client.get_registered_model(name).tags.get(CLAIM_TAG)
