"""Records that follow each other by number. None is ever written twice, so a killed writer spoils none before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gan_lib.core import storage
from gan_lib.core.stores.commit_record import create_commit_record, read_commit_record


class NumberedRecords:
    """The records 1, 2, ... in a folder; the last one counts. Listings may be late: records are asked for by name."""

    def __init__(self, url: str) -> None:
        self.url = url

    def numbers(self) -> list[int]:
        """Those that there are, whole or not, in their order."""
        listed = {int(name[:-5]) for name in storage.list_names(self.url) if name[:-5].isdecimal() and len(name) > 5}
        last = max(listed, default=0)
        while storage.exists(self.url_of(last + 1)):
            last += 1
            listed.add(last)
        return sorted(listed)

    def last(self) -> tuple[int, dict[str, Any] | None]:
        """The highest number, 0 where there is none, and the values of the last record that is whole."""
        numbers = self.numbers()
        for number in reversed(numbers):
            values = read_commit_record(self.url_of(number))
            if values is not None:
                return numbers[-1], values
        return max(numbers, default=0), None

    def create(self, number: int, values: Mapping[str, Any]) -> bool:
        """Write a record unless its number is taken; whether it was written."""
        return create_commit_record(self.url_of(number), values)

    def url_of(self, number: int) -> str:
        """Where the record is."""
        return storage.join(self.url, f"{number:06d}.json")
