"""Typed configuration: a YAML file and dotted overrides become one validated, frozen object.

Each package defines its own :class:`Settings` beside the thing that they turn; this module only loads them. Nothing
here starts Spark, so a typo costs a second and not a cluster.
"""

from __future__ import annotations

import argparse
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from gan_lib.core.errors import UserError


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


def arguments(description: str, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line that all jobs share into ``.config`` (a path) and ``.set`` (a list of ``key=value``)."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", required=True, metavar="FILE", help="YAML file with the job's settings")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one setting; nested keys are dotted, e.g. --set training.batch_size=8; repeatable",
    )
    return parser.parse_args(argv)


def load(schema: type[S], path: str | Path, overrides: Sequence[str] = ()) -> S:
    """Read ``path``, apply ``overrides`` ("a.b=value", the value read as YAML) and validate into ``schema``.

    Raises:
        ConfigError: no such file, not YAML, an override without ``=``, an unknown key, or a value that does not fit.
    """
    values = _read_yaml(Path(path))
    for override in overrides:
        _apply_override(values, override)
    return validate(schema, values, source=str(path))


def validate(schema: type[S], values: Mapping[str, Any], source: str) -> S:
    """Build ``schema`` from plain values. ``source`` names their origin in the error.

    Raises:
        ConfigError: naming every key that does not fit and what would.
    """
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(_explain(schema, problem) for problem in error.errors())
        raise ConfigError(f"{source}: {problems}.") from None


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


def _explain(schema: type[BaseModel], problem: ErrorDetails) -> str:
    location = [part for part in problem["loc"] if isinstance(part, str | int)]
    key = ".".join(map(str, location))
    if problem["type"] == "extra_forbidden":
        known = _keys_at(schema, location[:-1])
        close = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"what fits there: {', '.join(known)}"
        return f"unknown key {key} ({hint})"
    if problem["type"] == "missing":
        return f"the key {key} is missing; set it in the file or by --set {key}=..."
    message = problem["msg"][:1].lower() + problem["msg"][1:]
    return f"{key or 'the whole'} = {problem['input']!r} does not fit: {message}"


def _keys_at(schema: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """The keys that fit below ``location``; where a union is on the way, those of all its members."""
    candidates: list[type[BaseModel]] = [schema]
    for part in location:
        found = [c.model_fields[part].annotation for c in candidates if part in c.model_fields]
        if found:  # a part that is no field is the tag of a union: stay where we are
            candidates = [model for annotation in found for model in _models_in(annotation)]
    return sorted({name for candidate in candidates for name in candidate.model_fields})


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, types.GenericAlias | types.UnionType) or typing.get_origin(annotation) is not None:
        return [model for part in typing.get_args(annotation) for model in _models_in(part)]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return []
