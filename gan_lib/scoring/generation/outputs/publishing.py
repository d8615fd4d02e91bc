"""Makes the parts of a dataset, all of them committed, a dataset that readers find."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Any

from gan_lib.core import storage
from gan_lib.core.errors import UserError
from gan_lib.dataset.manifest import MANIFEST, DataFile, Manifest, Split, version_url, write_common_metadata
from gan_lib.dataset.schema import Schema
from gan_lib.scoring.generation.commits import CommitRecord
from gan_lib.scoring.generation.outputs.writers import SPLIT, VERSION

_REQUEST = "request"


def require_unpublished(url: str, request: str) -> None:
    """Check that no other dataset is at ``url``; one of the very same ``request`` (a hash of it) may be.

    Raises:
        UserError: there is.
    """
    version = version_url(url, VERSION)
    if storage.exists(storage.join(version, MANIFEST)) and Manifest.load(version).source.get(_REQUEST) != request:
        raise UserError(
            f"{url} holds a dataset of other rows, another model or other settings: choose another output.url, or "
            "remove it."
        )


def publish(
    url: str, schema: Schema, records: Iterable[CommitRecord], request: str, configuration: Mapping[str, Any]
) -> None:
    """Write what readers open the dataset by, the manifest last; nothing happens where it is published already.

    Raises:
        UserError: there is not one sample.
    """
    version = version_url(url, VERSION)
    if storage.exists(storage.join(version, MANIFEST)):
        return
    records = sorted(records, key=lambda record: record.part)
    files = tuple(_data_file(record.file) for record in records if record.file is not None)
    if not files:
        raise UserError("Every row was rejected: there is no sample to publish a dataset of.")
    groups = {file.path.removeprefix(f"{SPLIT}/"): len(file.row_groups) for file in files}
    write_common_metadata(storage.join(version, SPLIT), schema, groups)
    generated, rejected = (sum(getattr(record, side) for record in records) for side in ("generated", "rejected"))
    Manifest(
        version=VERSION,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        schema=schema,
        splits={SPLIT: Split(generated, files)},
        counts={"read": generated + rejected, "written": generated, "rejected": rejected, "duplicate": 0},
        rejects=_reasons(records),
        configuration=dict(configuration),
        source={_REQUEST: request, "model": records[0].model, "model_version": records[0].model_version},
    ).save(version)


def _data_file(values: Mapping[str, Any]) -> DataFile:
    return DataFile(**{**values, "row_groups": tuple(values["row_groups"])})


def _reasons(records: Iterable[CommitRecord]) -> dict[str, int]:
    reasons: dict[str, int] = {}
    for record in records:
        for reason, count in record.reasons.items():
            reasons[reason] = reasons.get(reason, 0) + count
    return reasons
