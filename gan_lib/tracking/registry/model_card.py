"""What a registered version tells of itself: recipe, data and figures, read off the run that trained it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gan_lib.export.description import Description

# Unity Catalog takes no dots in the names of tags, and no longer values.
_TAG = "gan_lib_"
LONGEST_TAG = 1000  # characters
_NOT_OF_THE_MODEL = ("system/", "start/")  # metrics of the machine and of the launch

DIGEST_TAG = f"{_TAG}digest"
"""SHA-256 of the artifact's files: the same training, registered again, is the same version."""

LOGGED_MODEL_TAG = f"{_TAG}logged_model"
"""Id of the LoggedModel that holds the version's files: not every registry keeps it by itself."""


@dataclass(frozen=True)
class ModelCard:
    """Where a version comes from; plain values."""

    run_id: str
    recipe: str | None
    """Name of the recipe; None where no recipe trained it."""
    settings: Mapping[str, str]
    """Of the recipe, by dotted key."""
    parameters: Mapping[str, str]
    """Of the whole run."""
    data: Mapping[str, str]
    """Name of each dataset that was read -> its fingerprint, as the run names it."""
    metrics: Mapping[str, float]
    """The last value of each that has one; without those of the machine."""

    @classmethod
    def of(cls, run: Any) -> ModelCard:
        """The card of what ``run``, an MLflow run, trained."""
        parameters = dict(run.data.params)
        inputs = run.inputs.dataset_inputs if run.inputs is not None else []
        return cls(
            run_id=run.info.run_id,
            recipe=parameters.get("recipe.name"),
            settings={
                key.removeprefix("recipe."): value
                for key, value in parameters.items()
                if key.startswith("recipe.") and key != "recipe.name"
            },
            parameters=parameters,
            data={one.dataset.name: one.dataset.digest for one in inputs},
            metrics={
                key: value
                for key, value in run.data.metrics.items()
                if math.isfinite(value) and not key.startswith(_NOT_OF_THE_MODEL)
            },
        )

    def tags(self, digest: str) -> dict[str, str]:
        """What can be searched for, as tags of the version."""
        tags = {DIGEST_TAG: digest, f"{_TAG}run": self.run_id}
        if self.recipe is not None:
            tags[f"{_TAG}recipe"] = self.recipe
        if self.data:
            tags[f"{_TAG}data"] = fitting_json(self.data)
        if self.metrics:
            tags[f"{_TAG}metrics"] = fitting_json(self.metrics)
        return tags

    def purpose(self, described: Description) -> str:
        """One sentence that holds for every version of a model: what goes in, and what comes out."""
        takes, gives = (
            ", ".join(name if name == port.kind else f"{name} ({port.kind})" for name, port in ports.items())
            for ports in (described.inputs, described.outputs)
        )
        scale = f", {described.tiling.scale} times as large" if described.tiling and described.tiling.scale > 1 else ""
        return f"`{described.architecture.name}` takes {takes} and gives {gives}{scale}."

    def description(self, described: Description) -> str:
        """What a person reads of a version in the registry, in Markdown."""
        return "\n\n".join(self._paragraphs(described))

    def _paragraphs(self, described: Description) -> Iterator[str]:
        yield self.purpose(described)
        if self.recipe is not None:
            chosen = ", ".join(f"{key} {value}" for key, value in sorted(self.settings.items()))
            yield f"Recipe: `{self.recipe}`" + (f" ({chosen})." if chosen else ".")
        if self.data:
            yield "Data: " + ", ".join(f"{name}, fingerprint `{digest}`" for name, digest in self.data.items()) + "."
        if self.metrics:
            rows = "\n".join(f"| {key} | {value:.6g} |" for key, value in sorted(self.metrics.items()))
            yield f"| at the end of training | |\n|---|---|\n{rows}"
        yield f"Run: `{self.run_id}`."


def fitting_json(values: Mapping[str, Any]) -> str:
    """``values`` as JSON that a tag can hold; what comes last is left away where it is too long, and counted."""
    kept = dict(values)
    while True:
        left_away = len(values) - len(kept)
        text = json.dumps({**kept, **({"left away": left_away} if left_away else {})})
        if len(text) <= LONGEST_TAG or not kept:
            return text
        kept.popitem()
