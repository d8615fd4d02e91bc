"""What an exception of a store means: not to be had now, worth another try, or a machine in trouble.

Every client library has exceptions of its own; error numbers and HTTP statuses are what they share. Where a library
gives neither, as for a connection that broke, its classes are known here by name: it need not be installed.
"""

from __future__ import annotations

import errno

from gan_lib.core.errors import MachineInTrouble, StoreUnavailable
from gan_lib.core.stores.spelling import is_local

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
_BROKEN_CONNECTIONS = frozenset(
    (
        *("aiohttp.client_exceptions.ClientConnectionError", "aiohttp.client_exceptions.ClientPayloadError"),
        *("requests.exceptions.ConnectionError", "requests.exceptions.Timeout", "urllib3.exceptions.HTTPError"),
        *("requests.exceptions.ChunkedEncodingError", "http.client.IncompleteRead", "ssl.SSLError"),
        *("google.auth.exceptions.TransportError", "fsspec.exceptions.FSTimeoutError"),
        *("asyncio.exceptions.TimeoutError", "paramiko.ssh_exception.SSHException"),
    )
)
# These clients have tried for long by themselves (Azure's for a minute): waiting four times as long helps nobody.
_GIVEN_UP = frozenset(
    (
        *("botocore.exceptions.HTTPClientError", "botocore.exceptions.ConnectionError"),
        "botocore.exceptions.ResponseParserError",
        *("azure.core.exceptions.ServiceRequestError", "azure.core.exceptions.ServiceResponseError"),
    )
)
_NO_CREDENTIALS = frozenset(
    (
        *("botocore.exceptions.NoCredentialsError", "botocore.exceptions.PartialCredentialsError"),
        *("botocore.exceptions.CredentialRetrievalError", "google.auth.exceptions.GoogleAuthError"),
    )
)
_ANSWERS = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)


def problem_of(error: BaseException, url: str) -> StoreUnavailable | MachineInTrouble | None:
    """What an exception of a store means, by its error number or its HTTP status; None where it means something else.

    Something else is what :class:`FileNotFoundError` and the like say by themselves, or a fault of the caller.
    """
    numbers, statuses = _codes_of(error)
    if not numbers.isdisjoint(_MACHINE) or isinstance(error, MemoryError):
        return MachineInTrouble(f"{url}: this machine cannot go on: {_said(error)}")
    refused = not numbers.isdisjoint(_REFUSED) or not statuses.isdisjoint(_HTTP_REFUSED)
    given_up = _is_one_of(error, _GIVEN_UP) or _is_one_of(error, _NO_CREDENTIALS)
    if refused or given_up or is_transient(error) or _is_unexplained(error, url):
        return StoreUnavailable(f"{url} cannot be had now: {_said(error)}")
    return None


def is_transient(error: BaseException) -> bool:
    """Whether the same request may well succeed a moment later."""
    if isinstance(error, FileNotFoundError | MachineInTrouble) or _is_one_of(error, _GIVEN_UP):
        return False
    numbers, statuses = _codes_of(error)
    timed_out = isinstance(error, TimeoutError | ConnectionError) or _is_one_of(error, _BROKEN_CONNECTIONS)
    return timed_out or not numbers.isdisjoint(_TRANSIENT) or not statuses.isdisjoint(_HTTP_TRANSIENT)


def is_missing(error: BaseException) -> bool:
    """Whether a store says that nothing is there, be it in an exception of its own."""
    return isinstance(error, FileNotFoundError) or 404 in _codes_of(error)[1]


def is_beyond_end(error: BaseException) -> bool:
    """Whether a store refused a range because the file ends before it."""
    return 416 in _codes_of(error)[1]


def _is_unexplained(error: BaseException, url: str) -> bool:
    """Whether a remote store failed in a way that says nothing of the file: so the file is not known to be bad."""
    return (
        not is_local(url)
        and isinstance(error, OSError)
        and not isinstance(error, _ANSWERS)
        and not is_beyond_end(error)
    )


def _chain(error: BaseException) -> list[BaseException]:
    """An exception and those that led to it, the last first."""
    found: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in found:
        found.append(cause)
        cause = cause.__cause__
    return found


def _is_one_of(error: BaseException, names: frozenset[str]) -> bool:
    kinds = (kind for cause in _chain(error) for kind in type(cause).__mro__)
    return any(f"{kind.__module__}.{kind.__qualname__}" in names for kind in kinds)


def _codes_of(error: BaseException) -> tuple[set[int], set[int]]:
    """Error numbers and HTTP statuses of an exception and of what led to it, as each client library tells them."""
    numbers: set[int] = set()
    statuses: set[int] = set()
    for cause in _chain(error):
        if isinstance(cause, OSError) and cause.errno is not None:
            numbers.add(cause.errno)
        response = getattr(cause, "response", None)
        told = [getattr(cause, "status", None), getattr(cause, "status_code", None), getattr(cause, "code", None)]
        told.append(getattr(response, "status_code", None))
        if isinstance(response, dict):
            told.append(response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
        statuses.update(int(status) for status in told if isinstance(status, int) and 400 <= status < 600)
    return numbers, statuses


def _said(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
