"""What the annotation of a setting may say beyond its type, and how it is read.

Settings' classes take :data:`Url` and :class:`ChosenByName` from :mod:`gan_lib.core.config`.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, RootModel, StringConstraints
from pydantic.fields import FieldInfo


class UrlMark:
    """What tells a :data:`Url` from other text, in a field's annotation."""


Url = Annotated[str, StringConstraints(min_length=1), UrlMark()]
"""The type of every setting that is a path or a URL of a file or folder; see ``config.with_absolute_urls``."""


@dataclass(frozen=True)
class ChosenByName:
    """Annotates a field whose settings' class is chosen by a name among its values, as in ``recipe: {name: dcgan}``.

    names: the names that may be listed; there may be others.
    settings: name -> the class of the settings beside the name; raises a UserError where there is none.
    key: the key that holds the name.
    """

    names: Callable[[], Sequence[str]]
    settings: Callable[[str], type[BaseModel]]
    key: str = "name"


def annotation_of(field: FieldInfo) -> Any:
    """A field's annotation with what pydantic took off its outside, such as the mark of a :data:`Url`."""
    return Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation


def is_literal(annotation: Any) -> bool:
    """Whether an annotation lists the values that fit."""
    return typing.get_origin(annotation) is Literal


def is_mapping(annotation: Any) -> bool:
    """Whether an annotation is that of values by name."""
    return typing.get_origin(annotation) in (dict, Mapping)


def members_of(model: type[BaseModel]) -> list[type[BaseModel]]:
    """The classes that a ``RootModel`` is a union of; of any other class itself."""
    return models_in(model.model_fields["root"].annotation) if issubclass(model, RootModel) else [model]


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The settings' classes that an annotation names, in their order: those of a union, a list or a mapping."""
    if isinstance(annotation, types.GenericAlias | types.UnionType) or typing.get_origin(annotation) is not None:
        return [model for part in typing.get_args(annotation) for model in models_in(part)]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return []
