"""A file of a remote store, open for reading, whose every read is tried again where the store is only busy."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any


class RemoteFile(io.RawIOBase):
    """What a store opened, read through ``tried``, which calls what it is given and explains what fails."""

    def __init__(self, opened: Any, tried: Callable[[Callable[[], bytes]], bytes]) -> None:
        super().__init__()
        self._opened = opened
        self._tried = tried
        self._position = 0

    def readable(self) -> bool:
        """It is, and not writable."""
        return True

    def seekable(self) -> bool:
        """To any byte, at the price of a request."""
        return True

    def tell(self) -> int:
        """The position of the next byte that is read."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a byte counted from the start, from here, or from the end."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position}.get(whence)
        if base is None:
            base = self._opened.seek(0, os.SEEK_END)
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` as far as the file goes; the number of bytes."""

        def read() -> bytes:
            self._opened.seek(self._position)  # a failed read may have moved it
            return bytes(self._opened.read(len(buffer)))

        content = self._tried(read)
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

    def close(self) -> None:
        """Let go of the connection."""
        if not self.closed:
            self._opened.close()
        super().close()
