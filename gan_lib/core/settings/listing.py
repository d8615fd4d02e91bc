"""What may be set in a job's configuration, as ``--settings`` prints it: every key with its type, default and sentence.

Read off the settings' classes, so it cannot differ from what is accepted. Nothing here reads or checks values.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from gan_lib.core.settings.annotations import (
    ChosenByName,
    UrlMark,
    annotation_of,
    is_literal,
    is_mapping,
    members_of,
    models_in,
)

_WORDS = {str: "text", int: "integer", float: "number", bool: "true or false", type(None): "null", Any: "anything"}


@dataclass(frozen=True)
class Key:
    """One line of the list."""

    name: str
    """Dotted, as ``--set`` takes it."""
    type: str
    default: str
    """As YAML spells it; "required" where there is none."""
    sentence: str = ""
    condition: str = ""
    """Under which choice elsewhere the key exists, such as "kind: folder"."""

    def __str__(self) -> str:
        """``name (condition)  type  = default``, and the sentence below it."""
        name = f"{self.name} ({self.condition})" if self.condition else self.name
        default = self.default if self.default == "required" else f"default {self.default}"
        return f"{name}: {self.type}; {default}" + (f"\n    {self.sentence}" if self.sentence else "")


def listing(schema: type[BaseModel], values: Mapping[str, Any]) -> str:
    """Every key of ``schema``; where ``values`` names a choice, such as a recipe, that one's own keys only."""
    return "\n".join(map(str, keys(schema, values)))


def keys(schema: type[BaseModel], values: Any = None, default: BaseModel | None = None) -> Iterator[Key]:
    """Every key of ``schema`` in its order, nested ones dotted.

    ``values`` are what is configured so far; ``default`` is an object whose values are the defaults instead of the
    class's.
    """
    members = members_of(schema)
    if members != [schema]:
        yield from _keys_of_union("", "", members, values, PydanticUndefined, "")
        return
    for name, field in schema.model_fields.items():
        value = field.get_default(call_default_factory=True) if default is None else getattr(default, name)
        below = values.get(name) if isinstance(values, Mapping) else None
        yield from _keys_of_field(name, field, below, value)


def _keys_of_field(name: str, field: FieldInfo, values: Any, default: Any) -> Iterator[Key]:
    sentence = _sentence(field)
    choice = next((mark for mark in field.metadata if isinstance(mark, ChosenByName)), None)
    models = models_in(field.annotation)
    if choice is not None:
        yield from _keys_of_choice(name, choice, values, sentence)
    elif not models:
        yield Key(name, type_name(annotation_of(field)), _spelled(default), sentence)
    elif len(models) == 1 and typing.get_origin(field.annotation) is None:
        given = default if isinstance(default, models[0]) else None
        yield from _below(name, keys(models[0], values, given))
    elif is_mapping(field.annotation):
        yield from _keys_of_union(f"{name}.NAME", type_name(annotation_of(field)), models, None, default, sentence)
    else:
        yield from _keys_of_union(name, type_name(annotation_of(field)), models, values, default, sentence)


def _keys_of_choice(name: str, choice: ChosenByName, values: Any, sentence: str) -> Iterator[Key]:
    named = values.get(choice.key) if isinstance(values, Mapping) else None
    names = [str(named)] if named is not None else list(choice.names())
    yield Key(f"{name}.{choice.key}", " | ".join(choice.names()), "required", sentence)
    for one in names:
        own = (key for key in keys(choice.settings(one)) if key.name != choice.key)
        yield from _below(name, own, f"{choice.key}: {one}")


def _keys_of_union(
    name: str, type_: str, models: list[type[BaseModel]], values: Any, default: Any, sentence: str
) -> Iterator[Key]:
    """The key that tells the members apart, and what they have; each with those that have it, unless all do."""
    tag = _tag(models)
    if tag is None:
        yield Key(name, type_, _spelled(default), sentence)
    else:
        shown = getattr(default, tag) if isinstance(default, BaseModel) else default
        sentence = sentence or _sentence(models[0].model_fields[tag])
        yield from _below(
            name, iter([Key(tag, " | ".join(_tag_of(m, tag) for m in models), _spelled(shown), sentence)])
        )
        chosen = values.get(tag) if isinstance(values, Mapping) else None
        models = [model for model in models if _tag_of(model, tag) == chosen] or models
    members: dict[Key, list[str]] = {}
    for model in models:
        for key in keys(model, values, default if type(default) is model else None):
            if key.name != tag:
                members.setdefault(key, []).append(_tag_of(model, tag) if tag else model.__name__)
    for key, having in members.items():
        condition = f"{tag}: {' | '.join(having)}" if tag else " | ".join(having)
        yield from _below(name, iter([key]), "" if len(having) == len(models) else condition)


def _below(parent: str, own: Iterator[Key], condition: str = "") -> Iterator[Key]:
    for key in own:
        both = ", ".join(filter(None, (condition, key.condition)))
        yield Key(f"{parent}.{key.name}" if parent else key.name, key.type, key.default, key.sentence, both)


def _tag(models: list[type[BaseModel]]) -> str | None:
    """The key whose fixed value tells the members of a union apart; None where there is none."""
    names = [name for name in models[0].model_fields if all(name in model.model_fields for model in models)]
    fixed = (n for n in names if all(is_literal(m.model_fields[n].annotation) for m in models))
    return next(fixed, None) if len(models) > 1 else None


def _tag_of(model: type[BaseModel], tag: str) -> str:
    return str(typing.get_args(model.model_fields[tag].annotation)[0])


def type_name(annotation: Any) -> str:
    """An annotation in a reader's words, such as "integer > 0 or null"."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        if any(isinstance(mark, UrlMark) for mark in parts[1:]):
            return "path or URL"
        if isinstance(parts[0], types.UnionType) or typing.get_origin(parts[0]) is typing.Union:
            inner = [Annotated[(part, *parts[1:])] for part in typing.get_args(parts[0]) if part is not type(None)]
            null = [type(None)] if type(None) in typing.get_args(parts[0]) else []
            return " or ".join(map(type_name, [*inner, *null]))
        return " ".join([type_name(parts[0]), *filter(None, map(_bound, parts[1:]))])
    if origin is Literal:
        return " | ".join(map(str, parts))
    if origin is typing.Union or isinstance(annotation, types.UnionType):
        return " or ".join(map(type_name, parts))
    if origin in (tuple, list) or str(origin) == "<class 'collections.abc.Sequence'>":
        return f"list of {type_name(parts[0])}"
    if origin is not None and len(parts) == 2:
        return f"mapping of {type_name(parts[0])} to {type_name(parts[1])}"
    return _WORDS.get(annotation) or str(getattr(annotation, "__name__", annotation))


def _bound(mark: Any) -> str:
    signs = {Gt: ("gt", ">"), Ge: ("ge", ">="), Lt: ("lt", "<"), Le: ("le", "<=")}
    for kind, (name, sign) in signs.items():
        if isinstance(mark, kind):
            return f"{sign} {getattr(mark, name)}"
    if isinstance(mark, MinLen) and mark.min_length:
        return f"(at least {mark.min_length})"
    return f"(at most {mark.max_length})" if isinstance(mark, MaxLen) else ""


def _sentence(field: FieldInfo) -> str:
    return " ".join((field.description or "").split()).replace("``", "")


def _spelled(default: Any) -> str:
    if default is PydanticUndefined:
        return "required"
    if isinstance(default, BaseModel):
        default = default.model_dump(mode="json")
    return json.dumps(default, default=str, ensure_ascii=False)
