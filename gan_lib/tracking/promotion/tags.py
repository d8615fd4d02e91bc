"""What a version tells of the promotions it took part in; names without dots and short values, for Unity Catalog."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gan_lib.tracking.registry.model_card import LONGEST_TAG, fitting_json

if TYPE_CHECKING:
    from mlflow import MlflowClient

NONE = "none"
"""In place of a version, where there was no champion."""

# As a challenger.
PROMOTION = "gan_lib_promotion"
"""What became of the version as a challenger: one of the four below."""
REFUSED = "refused"
ACCEPTED = "accepted"
"""It passed the gate; where this stays, the promotion was cut off before the alias moved."""
PROMOTED = "promoted"
ROLLED_BACK = "rolled back"
"""It was champion and must not be again."""
AGAINST = "gan_lib_promotion_against"
"""The champion that it was compared with."""
REPLACED = "gan_lib_promotion_replaced"
"""The champion before it, which a rollback restores. Written before the alias moves."""

# As the champion that was challenged, or restored.
CHALLENGE = "gan_lib_challenge"
KEPT = "kept"
GAVE_WAY = "replaced"
RESTORED = "restored"
BY = "gan_lib_challenge_by"
"""The version that challenged it, or that a rollback took down for it."""

_DETAILS = ("reasons", "figures", "run")


@dataclass(frozen=True)
class Decision:
    """Whether a challenger may become champion, and why."""

    accepted: bool
    reasons: Sequence[str]
    """A sentence each."""
    figures: Mapping[str, Any]
    """By measure; JSON values."""
    run_id: str
    """The MLflow run of the comparison."""

    def details(self) -> dict[str, str]:
        """Reasons, figures and run as texts that a tag can hold."""
        reasons = " ".join(self.reasons)
        short = reasons if len(reasons) <= LONGEST_TAG else f"{reasons[: LONGEST_TAG - 4]} ..."
        return dict(zip(_DETAILS, (short, fitting_json(self.figures), self.run_id), strict=True))


def tag_challenger(client: MlflowClient, name: str, version: str, against: str, state: str, decision: Decision) -> None:
    """Write down on a challenger what was decided."""
    _tag(client, name, version, {AGAINST: against, **_prefixed(PROMOTION, decision.details()), PROMOTION: state})


def tag_kept_champion(client: MlflowClient, name: str, version: str, challenger: str, decision: Decision) -> None:
    """Write down on a champion that it stays."""
    _tag(client, name, version, {BY: challenger, **_prefixed(CHALLENGE, decision.details()), CHALLENGE: KEPT})


def tag_replaced_champion(client: MlflowClient, name: str, version: str, challenger: Any) -> None:
    """Write down on the former champion what the version ``challenger``, which replaced it, tells of that."""
    details = {detail: challenger.tags.get(f"{PROMOTION}_{detail}", "") for detail in _DETAILS}
    told = {BY: str(challenger.version), **_prefixed(CHALLENGE, details), CHALLENGE: GAVE_WAY}
    _tag(client, name, version, told)


def _prefixed(role: str, details: Mapping[str, str]) -> dict[str, str]:
    return {f"{role}_{detail}": value for detail, value in details.items()}


def _tag(client: MlflowClient, name: str, version: str, tags: Mapping[str, str]) -> None:
    for key, value in tags.items():  # the one that says what became of it comes last
        client.set_model_version_tag(name, version, key, value)
