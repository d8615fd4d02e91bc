"""A published file: its bytes, which may come from anybody, and the tensors in it. Nothing in it is ever run."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from gan_lib.core import storage
from gan_lib.core.errors import StoreUnavailable, UserError

PREFERRED = ("params_ema", "params", "state_dict")
"""Names of the weights within a file that holds several, the one that the public scripts take first."""
_MEGABYTE = 1 << 20
_PARALLEL = "module."  # what DataParallel puts before each key


class PublishedFileError(UserError):
    """A file that cannot be imported; the sentence names it, what was found in it, and what would do."""


@dataclass(frozen=True)
class PublishedWeights:
    """The tensors of a file: finite, float32 (whole numbers stay), without the prefix of DataParallel."""

    url: str
    sha256: str
    tensors: Mapping[str, Tensor]

    @property
    def name(self) -> str:
        """The file's name without its folder."""
        return self.url.rstrip("/").rpartition("/")[2]


def read_published(url: str, max_megabytes: int = 2048, entry: str | None = None) -> PublishedWeights:
    """The weights in the .pth or .safetensors file at ``url`` (any store); ``entry`` names one of several sets.

    Raises:
        PublishedFileError: there is no such file, it is too large, cut short or damaged, holds code, or holds other
            things than finite tensors by name.
    """
    limit = max_megabytes * _MEGABYTE
    content = _content(url, limit)
    unpacked = _from_safetensors(url, content) if content[8:9] == b"{" else _from_torch(url, content, limit)
    tensors = _chosen(url, unpacked, entry)
    _check_size(url, tensors, limit)
    while all(name.startswith(_PARALLEL) for name in tensors):
        tensors = {name.removeprefix(_PARALLEL): value for name, value in tensors.items()}
    plain = {name: _plain(url, name, value) for name, value in tensors.items()}
    return PublishedWeights(url, hashlib.sha256(content).hexdigest(), plain)


def _content(url: str, limit: int) -> bytes:
    try:
        if storage.is_folder(url):
            raise PublishedFileError(f"{url} is a folder: name the file with the weights.")
        content = storage.read_range(url, 0, limit + 1)
    except FileNotFoundError:
        raise PublishedFileError(f"There is no file {url} to import.") from None
    except StoreUnavailable as error:
        raise PublishedFileError(f"{url} cannot be read now: {error}") from error
    if len(content) > limit:
        raise PublishedFileError(f"{url} is larger than {limit // _MEGABYTE} MB: raise max_megabytes if it is meant.")
    return content


def _from_safetensors(url: str, content: bytes) -> Mapping[str, Tensor]:
    try:
        return safetensors.torch.load(content)
    except Exception as error:  # the parser's own kind, and torch's for types that it does not know
        raise _unreadable(url, error) from error


def _from_torch(url: str, content: bytes, limit: int) -> Any:
    try:
        if content.startswith(b"PK"):
            _check_archive(url, content, limit)
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except PublishedFileError:
        raise
    except Exception as error:  # torch.load and zipfile raise many kinds on a damaged or hostile file
        code = re.search(r"GLOBAL (\S+)", str(error)) or re.search(r"[Tt]orchScript", str(error))
        if code is not None:
            raise PublishedFileError(
                f"{url} holds code ({code[code.re.groups]}) and not only tensors: it is refused, and nothing in it was "
                "run. Ask its publisher for the net's state_dict() alone."
            ) from None
        raise _unreadable(url, error) from error


def _check_archive(url: str, content: bytes, limit: int) -> None:
    """Look at a zip archive before torch does: it must not unpack to more than ``limit``, and its checksums must fit.

    Raises:
        PublishedFileError, or what zipfile raises.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(member.file_size for member in archive.infolist()) > limit:
            raise PublishedFileError(f"{url} unpacks to more than {limit // _MEGABYTE} MB: raise max_megabytes.")
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"{damaged} in it is damaged")


def _unreadable(url: str, error: Exception) -> PublishedFileError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return PublishedFileError(
        f"{url} cannot be read as weights; it is cut short, damaged, or neither .pth nor .safetensors: {reason:.200}."
    )


def _chosen(url: str, unpacked: Any, entry: str | None) -> Mapping[str, Tensor]:
    """The set of weights that is meant, of a file that is one or holds some."""
    if not isinstance(unpacked, Mapping) or not unpacked:
        raise PublishedFileError(f"{url} holds no tensors by name, but an object of type {type(unpacked).__name__}.")
    if entry is None and _is_weights(unpacked):
        return unpacked
    sets = {str(name): value for name, value in unpacked.items() if _is_weights(value)}
    if entry is not None:
        if entry not in sets:
            raise PublishedFileError(f"{url} holds no weights called entry = {entry!r}; it holds: {_listed(sets)}.")
        return sets[entry]
    for name in PREFERRED:
        if name in sets:
            return sets[name]
    if len(sets) == 1:
        return next(iter(sets.values()))
    if sets:
        raise PublishedFileError(f"{url} holds several sets of weights: name one by entry = {' | '.join(sets)}.")
    raise PublishedFileError(f"{url} holds no state dict, but {_listed(unpacked)}.")


def _is_weights(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(key, str) and isinstance(one, Tensor) for key, one in value.items())
    )


def _listed(names: Mapping[Any, Any]) -> str:
    shown = ", ".join(repr(name)[:60] for name in list(names)[:5]) or "nothing"
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _check_size(url: str, tensors: Mapping[str, Tensor], limit: int) -> None:
    """A tensor may claim far more numbers than the file holds, by strides of 0."""
    if sum(value.numel() * max(value.element_size(), 4) for value in tensors.values()) > 2 * limit:
        raise PublishedFileError(f"The tensors in {url} are larger than {limit // _MEGABYTE} MB: raise max_megabytes.")


def _plain(url: str, name: str, value: Tensor) -> Tensor:
    if value.layout != torch.strided or value.is_quantized or value.is_complex():
        raise PublishedFileError(f"{url} holds {name!r} as {value.dtype} ({value.layout}): plain numbers are needed.")
    if not value.is_floating_point():
        return value.detach().contiguous()
    plain = value.detach().to(torch.float32).contiguous()
    if not plain.isfinite().all():
        raise PublishedFileError(f"{url} holds numbers in {name!r} that are not finite: its training had gone wrong.")
    return plain
