"""Stores that count each change that a job makes, and at one of them kill the job with ``kill -9``.

``killing_stores-1.dist-info`` beside this module puts them in the place of the plain ones, in every process that finds
this folder first on its PYTHONPATH: the driver, Spark's workers, the ranks of a training. The folder that
KILLING_FOLDER names holds ``changes``, a byte for each change so far by whichever process, ``group``, the job's process
group, and ``moment``, the number of the change that is its last: half of them happen before they are made, half after;
where a store's writes are not atomic, half of the file is written.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from emulated_store import EmulatedFileSystem
from fsspec.asyn import sync_wrapper

try:
    from s3fs import S3FileSystem
except ImportError:
    S3FileSystem = object
try:
    from adlfs import AzureBlobFileSystem
except ImportError:
    AzureBlobFileSystem = object

CHANGES = frozenset(
    (
        *("put_object", "copy_object", "delete_object", "delete_objects"),
        *("create_multipart_upload", "upload_part", "complete_multipart_upload", "abort_multipart_upload"),
    )
)
"""Requests to S3 after which the store is another."""


def _folder() -> Path:
    return Path(os.environ["KILLING_FOLDER"])


def _is_the_last() -> tuple[bool, bool]:
    """Count a change; whether the job is to die at it, and whether before it is made."""
    number = os.open(_folder() / "changes", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(number, b".")
        count = os.lseek(number, 0, os.SEEK_CUR)  # an append moves it to its own end, whoever else appends
    finally:
        os.close(number)
    return count == int((_folder() / "moment").read_text()), count % 2 == 0


def _kill_job() -> NoReturn:
    """``kill -9`` of the job's process group, and of this process, which may be in one of its own."""
    os.killpg(int((_folder() / "group").read_text()), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


class KillingS3(S3FileSystem):
    """Counts requests."""

    async def _call_s3(self, method: str, *arguments: Any, **options: Any) -> Any:
        if method not in CHANGES:
            return await super()._call_s3(method, *arguments, **options)
        last, before = _is_the_last()
        if last and before:
            _kill_job()
        answer = await super()._call_s3(method, *arguments, **options)
        if last:
            _kill_job()
        return answer


class KillingAzure(AzureBlobFileSystem):
    """Counts files that are written, copied and removed."""

    async def _changed(self, change: Callable[[], Any]) -> Any:
        last, before = _is_the_last()
        if last and before:
            _kill_job()
        answer = await change()
        if last:
            _kill_job()
        return answer

    async def _pipe_file(self, *arguments: Any, **options: Any) -> Any:
        return await self._changed(lambda: super(KillingAzure, self)._pipe_file(*arguments, **options))

    async def _put_file(self, *arguments: Any, **options: Any) -> Any:
        return await self._changed(lambda: super(KillingAzure, self)._put_file(*arguments, **options))

    async def _cp_file(self, *arguments: Any, **options: Any) -> Any:
        return await self._changed(lambda: super(KillingAzure, self)._cp_file(*arguments, **options))

    async def _rm_file(self, *arguments: Any, **options: Any) -> Any:
        return await self._changed(lambda: super(KillingAzure, self)._rm_file(*arguments, **options))

    async def _rm_files(self, *arguments: Any, **options: Any) -> Any:
        return await self._changed(lambda: super(KillingAzure, self)._rm_files(*arguments, **options))

    # The class has these two ways each, and not one by the other.
    pipe_file = sync_wrapper(_pipe_file)
    put_file = sync_wrapper(_put_file)
    cp_file = sync_wrapper(_cp_file)


class KillingEmulated(EmulatedFileSystem):
    """Counts files that are written, copied (which is a write as well) and removed."""

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        """Write all of it, or half of it and die."""
        last, _ = _is_the_last()
        super().pipe_file(path, value[: len(value) // 2] if last else value, mode, **options)
        if last:
            _kill_job()

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if "r" in mode:
            return super()._open(path, mode, **options)
        last, _ = _is_the_last()
        file = super()._open(path, mode, **options)
        if last:
            _kill_job()  # the file is there, and empty
        return file

    def rm_file(self, path: str) -> None:
        """Remove it; die before or after."""
        last, before = _is_the_last()
        if last and before:
            _kill_job()
        super().rm_file(path)
        if last:
            _kill_job()
