"""What an exception of a store means: not to be had now, worth another try, or a machine in trouble.

Every client library has exceptions of its own; error numbers and HTTP statuses are what they share.
"""

from __future__ import annotations

import errno

from gan_lib.core.errors import MachineInTrouble, StoreUnavailable

_MACHINE = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EROFS))
_REFUSED = frozenset((errno.EACCES, errno.EPERM))
_TRANSIENT = frozenset(
    getattr(errno, name)
    for name in (
        *("EIO", "EAGAIN", "EBUSY", "EINTR", "EPIPE", "ESTALE", "EREMOTEIO"),
        *("ETIMEDOUT", "ECONNRESET", "ECONNREFUSED", "ECONNABORTED", "ENOTCONN"),
        *("ENETDOWN", "ENETUNREACH", "EHOSTUNREACH", "EHOSTDOWN"),
    )
    if hasattr(errno, name)
)
_HTTP_REFUSED = frozenset((401, 403))
_HTTP_TRANSIENT = frozenset((408, 425, 429, 500, 502, 503, 504))


def problem_of(error: BaseException, url: str) -> StoreUnavailable | MachineInTrouble | None:
    """What an exception of a store means, by its error number or its HTTP status; None where it means something else.

    Something else is what :class:`FileNotFoundError` and the like say by themselves, or a fault of the caller.
    """
    numbers, statuses = _codes_of(error)
    if not numbers.isdisjoint(_MACHINE) or isinstance(error, MemoryError):
        return MachineInTrouble(f"{url}: this machine cannot go on: {_said(error)}")
    refused = not numbers.isdisjoint(_REFUSED) or not statuses.isdisjoint(_HTTP_REFUSED)
    if refused or is_transient(error):
        return StoreUnavailable(f"{url} cannot be had now: {_said(error)}")
    return None


def is_transient(error: BaseException) -> bool:
    """Whether the same request may well succeed a moment later."""
    if isinstance(error, FileNotFoundError | MachineInTrouble):
        return False
    numbers, statuses = _codes_of(error)
    timed_out = isinstance(error, TimeoutError | ConnectionError)
    return timed_out or not numbers.isdisjoint(_TRANSIENT) or not statuses.isdisjoint(_HTTP_TRANSIENT)


def _codes_of(error: BaseException) -> tuple[set[int], set[int]]:
    """Error numbers and HTTP statuses of an exception and of what led to it, as each client library tells them."""
    numbers: set[int] = set()
    statuses: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and len(numbers) < 10:
        if isinstance(cause, OSError) and cause.errno is not None:
            numbers.add(cause.errno)
        response = getattr(cause, "response", None)
        told = [getattr(cause, "status", None), getattr(cause, "status_code", None), getattr(cause, "code", None)]
        told.append(getattr(response, "status_code", None))
        if isinstance(response, dict):
            told.append(response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
        statuses.update(int(status) for status in told if isinstance(status, int) and 400 <= status < 600)
        cause = cause.__cause__ if cause.__cause__ is not cause else None
    return numbers, statuses


def _said(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
