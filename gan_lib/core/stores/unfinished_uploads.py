"""What writers of large objects leave on S3 when they are killed: uploads of parts, which no listing shows.

An object of 100 MB and more goes there in parts, and becomes an object when the last request says so. Until then its
parts lie beside the bucket's objects, and are paid for without end. (Azure and Google drop such parts after a week.)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def unfinished_uploads(fs: Any, path: str) -> Iterator[tuple[str, str]]:
    """(key below the folder ``path`` of the S3 file system ``fs``, its upload's id) of each that is not finished."""
    bucket, folder, _ = fs.split_path(path)
    prefix = f"{folder.rstrip('/')}/" if folder else ""
    more: dict[str, str] = {}
    while True:
        page = fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix, **more)
        for upload in page.get("Uploads", ()):
            if upload["Key"].startswith(prefix):
                yield upload["Key"].removeprefix(prefix), upload["UploadId"]
        if not page.get("IsTruncated"):
            return
        more = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}


def abort_upload(fs: Any, path: str, key: str, upload: str) -> None:
    """Drop the parts of one upload that :func:`unfinished_uploads` gave for ``path``."""
    bucket, folder, _ = fs.split_path(path)
    fs.call_s3("abort_multipart_upload", Bucket=bucket, Key=f"{folder}/{key}".lstrip("/"), UploadId=upload)
