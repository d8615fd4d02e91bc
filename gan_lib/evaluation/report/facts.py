"""What was evaluated, and on what: the top of a report."""

from __future__ import annotations

from collections.abc import Mapping

from gan_lib.evaluation.settings import TaskSettings
from gan_lib.tracking.credentials import without_credentials
from gan_lib.tracking.runs import flatten

Fact = tuple[str, str]

_SAID_ELSEWHERE = {
    *("task", "models", "output", "trusted_packages", "limits", "tracking"),
    *("metrics", "features", "grid_rows", "cases"),
}


def facts_of(settings: TaskSettings, models: Mapping[str, str]) -> list[Fact]:
    """Models with their versions, then what the settings say of data and measures, by their own keys.

    ``models``: method -> the version behind what the settings name.
    """
    chosen = settings.model_dump(mode="json", exclude=_SAID_ELSEWHERE, exclude_none=True)
    facts = [(f"model {name}", _version(asked, models.get(name, asked))) for name, asked in settings.models.items()]
    facts += [(key.replace(".", " "), _text(value)) for key, value in flatten(chosen) if value not in ([], {})]
    return [(name, without_credentials(value)) for name, value in facts]


def _version(asked: str, found: str) -> str:
    return found if found == asked else f"{found}, which was {asked}"


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
