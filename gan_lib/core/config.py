"""Typed configuration: a YAML file and dotted overrides become one validated, frozen object.

Each package defines its own :class:`Settings` beside the thing that they turn; this module only loads them. Nothing
here starts Spark, so a typo costs a second and not a cluster. What may be set is printed by
:mod:`gan_lib.core.settings.listing`.
"""

from __future__ import annotations

import argparse
import difflib
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from gan_lib.core import storage
from gan_lib.core.errors import UserError
from gan_lib.core.settings.annotations import ChosenByName as ChosenByName
from gan_lib.core.settings.annotations import Url as Url
from gan_lib.core.settings.annotations import UrlMark, annotation_of, is_literal, members_of, models_in
from gan_lib.core.settings.listing import listing


class ConfigError(UserError):
    """A configuration that cannot be used; the message names the file, the key and what would fit."""


class Settings(BaseModel):
    """Base of every settings class: immutable, and unknown keys are refused.

    ``protected_namespaces`` is emptied because ``model`` is a word that our users need.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), use_attribute_docstrings=True, allow_inf_nan=False
    )


S = TypeVar("S", bound=Settings)
Model = TypeVar("Model", bound=BaseModel)
"""Settings, or a ``RootModel`` around a union of them."""


def from_command_line(schema: type[Model], description: str, argv: Sequence[str] | None = None) -> Model:
    """What a job begins with: its command line's settings. ``--settings`` prints what may be set, and exits with 0.

    Raises:
        ConfigError: see :func:`load`.
        SystemExit: 0 once the settings, or the help, are printed; 2 when the command line is wrong.
    """
    parsed = arguments(description, argv)
    if parsed.settings:
        values = _read_yaml(Path(parsed.config)) if parsed.config else {}
        print(listing(schema, _overridden(values, parsed.set)))
        sys.exit(0)
    return load(schema, parsed.config, parsed.set)


def arguments(description: str, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line that all jobs share: ``.config`` (a path), ``.set`` ("key=value" texts), ``.settings``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", metavar="FILE", help="YAML file with the job's settings")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one setting; nested keys are dotted, e.g. --set training.batch_size=8; repeatable",
    )
    parser.add_argument("--settings", action="store_true", help="print every key that may be set, and exit")
    parsed = parser.parse_args(argv)
    if parsed.config is None and not parsed.settings:
        parser.error("the following arguments are required: --config")
    return parsed


def load(schema: type[Model], path: str | Path, overrides: Sequence[str] = ()) -> Model:
    """Read ``path``, apply ``overrides`` ("a.b=value", the value read as YAML) and validate into ``schema``.

    Raises:
        ConfigError: no such file, not YAML, an override without ``=``, an unknown key, or a value that does not fit.
    """
    values = _overridden(_read_yaml(Path(path)), overrides)
    return validate(schema, values, source=str(path))


def validate(schema: type[Model], values: Mapping[str, Any], source: str) -> Model:
    """Build ``schema`` from plain values. ``source`` names their origin in the error.

    Raises:
        ConfigError: naming every key that does not fit and what would.
    """
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(_explain(schema, values, problem) for problem in error.errors())
        raise ConfigError(f"{source}: {problems}.") from None


def with_absolute_urls(settings: S) -> S:
    """``settings`` with every :data:`Url` in it, at any depth, such that another process means the same place by it.

    Relative local paths become absolute; all others keep the user's spelling.
    """
    fields = type(settings).model_fields
    before = {name: getattr(settings, name) for name in fields}
    after = {name: _absolute(value, annotation_of(fields[name])) for name, value in before.items()}
    changed = {name: value for name, value in after.items() if value is not before[name]}
    return settings.model_copy(update=changed) if changed else settings


def _absolute(value: Any, annotation: Any) -> Any:
    if isinstance(value, Settings):
        return with_absolute_urls(value)
    parts = typing.get_args(annotation)
    if typing.get_origin(annotation) is Annotated:
        if isinstance(value, str) and any(isinstance(mark, UrlMark) for mark in parts[1:]):
            return storage.absolute(value)
        return _absolute(value, parts[0])
    if isinstance(value, dict):
        return {key: _absolute(one, parts[1] if parts else None) for key, one in value.items()}
    if isinstance(value, tuple | list):
        kind = parts[0] if parts else None  # no list of ours holds several kinds of values
        return type(value)(_absolute(one, kind) for one in value)
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return next((new for new in (_absolute(value, part) for part in parts) if new is not value), value)
    return value


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"There is no configuration file {path}; name one of conf/ with --config.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as a configuration file: {error}.") from None
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold keys with values at its top level, not a {type(values).__name__}.")
    return values


def _overridden(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    for override in overrides:
        _apply_override(values, override)
    return values


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"--set {override!r} is not of the form key=value, e.g. --set training.batch_size=8.")
    *parents, last = key.split(".")
    node = values
    for parent in parents:
        child = node.setdefault(parent, {})
        if child is None:
            child = node[parent] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"--set {key}: {parent} holds the single value {child!r} and has no keys below it.")
        node = child
    try:
        node[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {key}: the value {text!r} is not valid YAML; quote it.") from None


def _explain(schema: type[BaseModel], values: Mapping[str, Any], problem: ErrorDetails) -> str:
    location = [part for part in problem["loc"] if isinstance(part, str | int)]
    unknown = problem["type"] == "extra_forbidden"
    parents, candidates = _follow(schema, values, location[:-1] if unknown else location)
    if unknown:
        key, last = ".".join([*parents, str(location[-1])]), str(location[-1])
        known = sorted({name for candidate in candidates for name in candidate.model_fields})
        close = difflib.get_close_matches(last, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"what fits there: {', '.join(known)}"
        return f"unknown key {key} ({hint})"
    key = ".".join(parents)
    if problem["type"] in ("union_tag_invalid", "union_tag_not_found"):
        tag = ".".join([*parents, problem["ctx"]["discriminator"].strip("'")])
        fitting = problem["ctx"].get("expected_tags", "").replace("'", "")
        if not fitting:
            return f"the key {tag} is missing; set it in the file or by --set {tag}=..."
        return f"{tag} = {problem['ctx']['tag']!r} does not fit: it may be {fitting}"
    if problem["type"] == "missing":
        return f"the key {key} is missing; set it in the file or by --set {key}=..."
    message = problem["msg"][:1].lower() + problem["msg"][1:]
    return f"{key or 'the whole'} = {problem['input']!r} does not fit: {message}"


def _follow(
    schema: type[BaseModel], values: Any, location: Sequence[str | int]
) -> tuple[list[str], list[type[BaseModel]]]:
    """The dotted key that leads to ``location``, and the classes whose keys fit there.

    pydantic puts the tag of a union's member into a location, which is no part of the key.
    """
    candidates: list[type[BaseModel]] = [schema]
    key: list[str] = []
    for part in location:
        candidates = [member for candidate in candidates for member in members_of(candidate)]
        fields = [candidate.model_fields[str(part)] for candidate in candidates if str(part) in candidate.model_fields]
        if fields:
            values = values.get(part) if isinstance(values, Mapping) else None
            below = [model for field in fields for model in _models_below(field, values)]
        tagged = [candidate for candidate in candidates if _has_tag(candidate, part)]
        if fields or not tagged:
            key.append(str(part))
        candidates = below if fields else tagged or candidates
    return key, [member for candidate in candidates for member in members_of(candidate)]


def _models_below(field: FieldInfo, values: Any) -> list[type[BaseModel]]:
    models = models_in(field.annotation)
    for choice in (mark for mark in field.metadata if isinstance(mark, ChosenByName)):
        if isinstance(values, Mapping) and choice.key in values:
            models.append(choice.settings(str(values[choice.key])))
    return models


def _has_tag(model: type[BaseModel], part: str | int) -> bool:
    """Whether ``part`` tells ``model`` from the others of its union: its name, or a value that one of its keys has."""
    fixed = (typing.get_args(f.annotation) for f in model.model_fields.values() if is_literal(f.annotation))
    return part == model.__name__ or any(part in values for values in fixed)
