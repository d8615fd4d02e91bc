"""The champion before is champion again."""

from __future__ import annotations

from typing import NamedTuple

from gan_lib.core.errors import DecisionNeeded
from gan_lib.tracking.promotion.claim import claimed
from gan_lib.tracking.promotion.moves import CHAMPION, require_champion, set_previous
from gan_lib.tracking.promotion.tags import BY, CHALLENGE, NONE, PROMOTION, REPLACED, RESTORED, ROLLED_BACK
from gan_lib.tracking.registry.models import ModelVersion, find, resolve
from gan_lib.tracking.settings import TrackingSettings
from gan_lib.tracking.store import TrackingError, store_of


class Rollback(NamedTuple):
    """Which version is taken down, and which comes back."""

    down: ModelVersion
    restored: ModelVersion


def plan_rollback(name: str, settings: TrackingSettings, champion_named: int | None = None) -> Rollback:
    """What a rollback of the model ``name`` would do now; ``champion_named``: the version that is to be taken down.

    Raises:
        DecisionNeeded: another version is champion than was named.
        TrackingError: no such model, no champion, or none before it.
    """
    store = store_of(settings)
    champion = find(store, name).aliases.get(CHAMPION)
    if champion is None:
        raise TrackingError(f"The model {name} at {store} has no champion, so there is nothing to roll back.")
    if champion_named is not None and str(champion_named) != str(champion):
        raise DecisionNeeded(
            f"The champion of {name} is version {champion} and not {champion_named}: nothing was changed."
        )
    down = resolve(f"models:/{name}/{champion}", settings)
    with store.explained(f"looking for the champion before {name} {champion}"):
        before = store.client().get_model_version(name, champion).tags.get(REPLACED, NONE)
    if before == NONE:
        raise TrackingError(
            f"Version {champion} of {name} replaced no champion, so there is none to go back to: "
            f"promote another version by jobs/promote.py."
        )
    return Rollback(down, resolve(f"models:/{name}/{before}", settings))


def roll_back(planned: Rollback, run_id: str, settings: TrackingSettings) -> None:
    """Let the version before be champion again, and the one that is taken down never again by itself.

    Raises:
        DecisionNeeded: the champion is another than planned; nothing was changed.
        TrackingError: the registry is away or refuses.
    """
    store = store_of(settings)
    name, down, restored = planned.down.name, planned.down.version, planned.restored.version
    with store.explained(f"rolling {name} back to version {restored}"):
        client = store.client()
        with claimed(client, name) as require_still_held:
            require_champion(client, name, down, "the rollback began")
            client.set_model_version_tag(name, down, PROMOTION, ROLLED_BACK)
            client.set_model_version_tag(name, down, f"{PROMOTION}_run", run_id)
            require_still_held()
            client.set_registered_model_alias(name, CHAMPION, restored)
            set_previous(client, name, client.get_model_version(name, restored))
            for key, value in ((BY, down), (f"{CHALLENGE}_run", run_id), (CHALLENGE, RESTORED)):
                client.set_model_version_tag(name, restored, key, value)
