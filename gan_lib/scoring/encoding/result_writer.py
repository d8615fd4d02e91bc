"""Writes what a pipeline finishes, with its provenance, and knows by that what need not be made again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gan_lib.core import storage
from gan_lib.scoring.encoding import encoders, provenance
from gan_lib.scoring.settings import OutputSettings

if TYPE_CHECKING:
    from gan_lib.scoring.pipeline import Request


@dataclass
class Tag:
    """What is known of an image beside its pixels."""

    output: str | None
    """Path below the output folder; None where results go into the table."""
    source_etag: str | None = None
    source_sha256: str | None = None
    """Of all that goes into the net."""
    precision: str | None = None
    """Number format that the result was computed in, where there is one."""
    mode: str | None = None
    """How Pillow calls the result's channels: RGB, RGBA, L, LA."""
    bits: int | None = None
    """Of each of the result's values: 8 or 16."""


@dataclass(frozen=True)
class ResultWriter:
    """Writes the results of requests whose tag is a :class:`Tag`."""

    output: OutputSettings
    lineage: Mapping[str, str]
    """The words of provenance that all results share: model, version, weights, settings."""
    run: str
    """MLflow run of the job; empty where there is none."""
    scratch: str
    """Folder on the output's own disk, for files that are not whole yet."""

    def known(self, request: Request) -> bool:
        """Whether the very result is there already, made from the same content in the same way."""
        tag: Tag = request.tag
        tag.source_sha256 = _digest(request.content, request.beside)
        if tag.output is None:
            return False
        found = provenance.read(storage.join(self.output.url, tag.output))
        if found is None or any(found.get(key) != value for key, value in self._provenance(tag).items()):
            return False
        request.width, request.height = int(found["width"]), int(found["height"])
        tag.precision = found.get("precision")
        tag.mode, tag.bits = found.get("mode"), int(found["bits"]) if "bits" in found else None
        return True

    def finish(self, request: Request) -> None:
        """Encode the canvas of ``request`` into its file, or else into its ``result``."""
        assert request.canvas is not None and request.precision is not None
        tag: Tag = request.tag
        described = encoders.describe(request.canvas, self.output)
        tag.precision, tag.mode, tag.bits = request.precision, described["mode"], int(described["bits"])
        facts = {
            **self._provenance(tag),
            "precision": request.precision,
            **described,
            "width": str(request.width),
            "height": str(request.height),
            "run": self.run,
        }
        if tag.output is None:
            request.result = encoders.to_bytes(request.canvas, self.output, facts)
        else:
            encoders.to_file(
                request.canvas, storage.join(self.output.url, tag.output), self.output, facts, self.scratch
            )

    def _provenance(self, tag: Tag) -> dict[str, Any]:
        return {**self.lineage, "source": tag.source_sha256}


def _digest(content: bytes, beside: Mapping[str, Any]) -> str:
    """SHA-256 of the image, and of what goes into the net beside it."""
    digest = hashlib.sha256(content)
    for name in sorted(beside):
        value = beside[name] if isinstance(beside[name], bytes) else repr(beside[name]).encode()
        digest.update(b"\0%s\0%d\0" % (name.encode(), len(value)) + value)
    return digest.hexdigest()
