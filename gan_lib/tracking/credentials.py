"""Keeps passwords out of what is written down: logs, messages, tables, a run's parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# user:password@ behind ://. A password may hold a slash; digits between a colon and the next slash are a port.
_USER_INFO = re.compile(r"""(?<=://)(?:[^\s"'<>/?#]*@|[^\s"'<>/:@]*:(?!\d+(?:[/?#]|$))[^\s"'<>]*@)""")
_QUERY = re.compile(
    r"""(?i)([?&](?:password|passwd|pwd|secret|token|access_token|api_?key|sig|signature|x-amz-signature)=)[^\s"'<>&#]+"""
)


def without_credentials(text: str) -> str:
    """``text`` with users and passwords cut out of each URL in it; what a query calls a secret becomes ``***``."""
    return _QUERY.sub(r"\1***", _USER_INFO.sub("", text))


def all_without_credentials(value: Any) -> Any:
    """Nested settings as plain mappings, lists, texts and numbers, each text :func:`without_credentials`."""
    if isinstance(value, Mapping):
        return {str(key): all_without_credentials(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [all_without_credentials(one) for one in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return without_credentials(str(value))
