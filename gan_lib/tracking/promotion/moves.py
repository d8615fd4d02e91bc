"""The alias ``champion`` moves from one version to another, or does not.

All hangs on the one call that sets the alias. A process that is killed before it leaves the champion in place; one that
is killed after it leaves the new champion with all that a rollback needs, and the next promotion completes the tags.
Two processes at once take turns (see :mod:`gan_lib.tracking.promotion.claim`), and the second finds that the champion
is no longer the one that it was compared with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from gan_lib.core.errors import DecisionNeeded
from gan_lib.tracking.promotion.claim import claimed
from gan_lib.tracking.promotion.tags import (
    ACCEPTED,
    NONE,
    PROMOTED,
    PROMOTION,
    REFUSED,
    REPLACED,
    ROLLED_BACK,
    Decision,
    tag_challenger,
    tag_kept_champion,
    tag_replaced_champion,
)
from gan_lib.tracking.registry.models import ModelVersion, find, resolve
from gan_lib.tracking.settings import TrackingSettings
from gan_lib.tracking.store import store_of

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION = "champion"
"""What production reads."""
CHALLENGER = "challenger"
"""What was trained last."""
PREVIOUS = "previous"
"""What was champion before; for people, and ``models:/NAME@previous``: a rollback goes by the champion's tags."""


class Standing(NamedTuple):
    """Who challenges whom, as versions: aliases may move while they are compared."""

    challenger: ModelVersion
    champion: ModelVersion | None
    """None: nobody is champion yet."""

    @property
    def name(self) -> str:
        """Of the registered model."""
        return self.challenger.name

    @property
    def against(self) -> str:
        """The champion's version, or "none"."""
        return NONE if self.champion is None else self.champion.version


def standing(name: str, challenger: int | None, settings: TrackingSettings) -> Standing:
    """Who challenges whom now; ``challenger`` None: the version with that alias.

    Raises:
        TrackingError: no such model or version, or nobody has the alias.
    """
    named = f"models:/{name}@{CHALLENGER}" if challenger is None else f"models:/{name}/{challenger}"
    challenging = resolve(named, settings)
    aliases = find(store_of(settings), name).aliases
    champion = resolve(f"models:/{name}/{aliases[CHAMPION]}", settings) if CHAMPION in aliases else None
    return Standing(challenging, champion)


def was_rolled_back(model: ModelVersion, settings: TrackingSettings) -> bool:
    """Whether ``model`` was champion and was taken down: then it must not come back by itself, every night."""
    store = store_of(settings)
    with store.explained(f"looking for {model.name} version {model.version}"):
        return _state(store.client().get_model_version(model.name, model.version)) == ROLLED_BACK


def refuse(between: Standing, decision: Decision, settings: TrackingSettings) -> None:
    """Write down on both versions that the champion stays."""
    store = store_of(settings)
    name, challenger = between.name, between.challenger.version
    with store.explained(f"writing down that {name} {challenger} is refused"):
        client = store.client()
        tag_challenger(client, name, challenger, between.against, REFUSED, decision)
        if between.champion is not None:
            tag_kept_champion(client, name, between.champion.version, challenger, decision)


def promote(between: Standing, decision: Decision, settings: TrackingSettings) -> None:
    """Let the challenger be champion, and write it down on both versions.

    Raises:
        DecisionNeeded: another champion than the one compared with is there now; nothing was changed.
        TrackingError: the registry is away or refuses.
    """
    store = store_of(settings)
    name, challenger = between.name, between.challenger.version
    with store.explained(f"promoting {name} {challenger}"):
        client = store.client()
        tag_challenger(client, name, challenger, between.against, ACCEPTED, decision)
        with claimed(client, name) as require_still_held:
            require_champion(client, name, between.against, f"version {challenger} was compared with it")
            client.set_model_version_tag(name, challenger, REPLACED, between.against)
            require_still_held()
            client.set_registered_model_alias(name, CHAMPION, challenger)
            _complete(client, name, challenger)


def complete(champion: ModelVersion, settings: TrackingSettings) -> None:
    """Write down what a promotion that was killed had no time to; nothing where that one was completed.

    Raises:
        TrackingError: the registry is away or refuses.
    """
    store = store_of(settings)
    with store.explained(f"completing the promotion of {champion.name} {champion.version}"):
        client = store.client()
        if _state(client.get_model_version(champion.name, champion.version)) != ACCEPTED:
            return
        with claimed(client, champion.name):
            if champion_of(client, champion.name) == champion.version:
                _complete(client, champion.name, champion.version)


def champion_of(client: MlflowClient, name: str) -> str:
    """The version that is champion, or "none"."""
    return str(client.get_registered_model(name).aliases.get(CHAMPION, NONE))


def require_champion(client: MlflowClient, name: str, version: str, why: str) -> None:
    """Check that the champion is still the one that a decision was about.

    Raises:
        DecisionNeeded: it is another.
    """
    now = champion_of(client, name)
    if now != version:
        raise DecisionNeeded(
            f"The champion of {name} was version {version} when {why}, and is version {now} now: "
            "nothing was changed; run it again."
        )


def set_previous(client: MlflowClient, name: str, champion: Any) -> None:
    """Let the alias ``previous`` name the champion before ``champion``; nothing, where there was none."""
    before = champion.tags.get(REPLACED, NONE)
    if before != NONE:
        client.set_registered_model_alias(name, PREVIOUS, before)
    elif PREVIOUS in client.get_registered_model(name).aliases:
        client.delete_registered_model_alias(name, PREVIOUS)


def _complete(client: MlflowClient, name: str, champion: str) -> None:
    """What follows from an alias that has moved; doing it again changes nothing."""
    version = client.get_model_version(name, champion)
    set_previous(client, name, version)
    if version.tags.get(REPLACED, NONE) != NONE:
        tag_replaced_champion(client, name, version.tags[REPLACED], version)
    client.set_model_version_tag(name, champion, PROMOTION, PROMOTED)


def _state(version: Any) -> str | None:
    state = version.tags.get(PROMOTION)
    return None if state is None else str(state)
