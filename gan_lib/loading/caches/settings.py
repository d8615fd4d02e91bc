"""What a user may say about caches on the machines that train."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from gan_lib.core import storage
from gan_lib.core.config import Settings, Url


class CacheSettings(Settings):
    """What each machine keeps of the dataset for later epochs. No cache changes a batch."""

    kind: Literal["auto", "decoded", "stored", "none"] = "auto"
    """decoded: rows as the training takes them, which spares the decoder. stored: row groups as they were read, which
    spares a remote store. auto: decoded where half of the free memory and the disk hold all of it, else stored for a
    remote store where the disk holds that, else none; and none where no row is read twice."""
    folder: Url | None = None
    """On a disk of the machine, where it stays for later trainings; None: below the machine's folder for temporary
    files, and removed when the training ends."""
    max_bytes: int | None = Field(default=None, gt=0)
    """Of disk, for all that is cached in the folder; None: four fifths of what is free."""

    @field_validator("folder")
    @classmethod
    def _check_local(cls, folder: str | None) -> str | None:
        if folder is not None and not storage.is_local(folder):
            raise ValueError("a cache lies on a disk of the machine that reads: name a local folder")
        return folder
