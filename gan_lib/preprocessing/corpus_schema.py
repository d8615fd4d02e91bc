"""The fields that a listed corpus becomes, and whether a dataset that is there already can take them up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gan_lib.core.errors import UserError
from gan_lib.dataset.manifest import Manifest
from gan_lib.dataset.schema import Field, ScalarField, Schema
from gan_lib.preprocessing.media.medium import Medium
from gan_lib.preprocessing.media.tokens import TokensMedium
from gan_lib.preprocessing.settings import PreprocessSettings
from gan_lib.preprocessing.sources.listing import Listing


def media_of(settings: PreprocessSettings, listing: Listing) -> tuple[dict[str, Medium], dict[str, TokensMedium]]:
    """(medium of each part, in their order; medium of each text beside the parts that is to become tokens).

    Raises:
        UserError: the settings name a field that is neither a part nor a text, or a value beside the parts has the name
            of one of them.
    """
    parts = listing.parts or (settings.medium.kind,)
    media: dict[str, Medium] = {name: settings.media.get(name, settings.medium) for name in parts}
    doubled = sorted(media.keys() & listing.fields.keys())
    if doubled:
        raise UserError(f"The field {doubled[0]} would hold the samples' content and a value beside it: rename it.")
    texts: dict[str, TokensMedium] = {}
    for name, medium in settings.media.items():
        if name in media:
            continue
        if listing.fields.get(name) != "str" or not isinstance(medium, TokensMedium):
            known = ", ".join([*parts, *(n for n, dtype in listing.fields.items() if dtype == "str")])
            raise UserError(
                f"media.{name} fits nothing in the source: it has {known}; texts beside its parts can be tokens only."
            )
        texts[name] = medium
    return media, texts


def schema_of(settings: PreprocessSettings, listing: Listing) -> Schema:
    """The fields of the dataset that the listed corpus becomes. Raises what :func:`media_of` raises."""
    media, texts = media_of(settings, listing)
    rules = settings.rules()
    fields: list[Field] = [medium.field(name, rules) for name, medium in media.items()]
    for name, dtype in listing.fields.items():
        text = texts.get(name)
        fields.append(ScalarField(name, dtype) if text is None else text.field(name, rules))
    return Schema("Samples", tuple(fields))


def require_same_fields(base: Manifest, schema: Schema, listing: Listing) -> None:
    """See that rows of these fields can stand beside those of the last version.

    Raises:
        UserError: they cannot; each reader would fail on them.
    """
    old = {field.name: field.to_json() for field in base.schema}
    new = {field.name: field.to_json() for field in schema}
    others = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    if others:
        raise UserError(
            f"Version {base.version} of the dataset has the fields {_described(old)}, and this source gives "
            f"{_described(new)}: they differ in {', '.join(others)}. Name another output, or a source of the same "
            "fields."
        )
    for name, meaning in base.meanings.items():
        known, found = list(meaning.get("classes", ())), list(listing.classes.get(name, ()))
        if found[: len(known)] != known:
            raise UserError(
                f"Version {base.version} of the dataset numbers the classes of {name} as {', '.join(known[:10])}, and "
                f"this source as {', '.join(found[:10]) or 'nothing'}: name another output, or a source of the same "
                "classes."
            )


def _described(fields: Mapping[str, Mapping[str, Any]]) -> str:
    kinds = {
        name: [field["kind"], *filter(None, (field.get("dtype"), field.get("shape")))] for name, field in fields.items()
    }
    return ", ".join(f"{name} ({' '.join(map(str, kind))})" for name, kind in kinds.items())


def with_classes(listing: Listing, settings: PreprocessSettings) -> Listing:
    """The listing, with the class names that the settings give.

    Raises:
        UserError: they are given for a field that holds no whole numbers, or whose classes the source names itself.
    """
    for name in settings.classes:
        if not listing.fields.get(name, "").startswith(("int", "uint")):
            whole = [n for n, dtype in listing.fields.items() if dtype.startswith(("int", "uint"))]
            raise UserError(
                f"classes.{name} names no field of whole numbers; the source has {', '.join(whole) or 'none'}."
            )
        if name in listing.classes:
            raise UserError(f"The source names the classes of {name} itself: leave classes.{name} out.")
    return replace(listing, classes={**listing.classes, **settings.classes})
