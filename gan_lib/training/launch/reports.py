"""What became of each rank, in one small JSON file a rank, in a folder that the driver and all ranks reach.

Torchrun and Spark each know a part of the truth (an exit code, a lost executor) and lose the rest on the way up. A rank
that can still speak says here how it ended; the agent beside it speaks for one that was killed; who left no last word
was lost with its machine. Results come back the same way, as JSON: nothing is unpickled.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from gan_lib.core import storage
from gan_lib.core.stores.commit_record import read_commit_record, write_commit_record

State = Literal["started", "returned", "raised", "exited", "killed", "cut off"]
"""``cut off``: the connection to another rank broke. ``started``, and nothing after it: lost without a word."""

FOLDER_VARIABLE = "GAN_LIB_RANK_REPORTS"
STARTED_VARIABLE = "GAN_LIB_AGENT_STARTED"


@dataclass(frozen=True)
class Report:
    """The last that is known of one rank."""

    rank: int
    state: State
    detail: str = ""
    """A traceback, or what the exit code means."""
    request_error: str | None = None
    """The sentence of a UserError: the request was wrong, not the code."""
    result: Any = None
    """What the rank's function returned: plain JSON values."""
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    times: Mapping[str, float] = field(default_factory=dict)
    """Moment -> seconds since 1970; see :mod:`gan_lib.training.launch.timeline`."""

    @property
    def final(self) -> bool:
        """Whether the rank said how it ended."""
        return self.state != "started"

    @property
    def failed(self) -> bool:
        """Whether the rank failed by itself, and not because another one went away."""
        return self.state in ("raised", "exited", "killed")

    def __str__(self) -> str:
        gap = "\n" if "\n" in self.detail else " "
        return f"rank {self.rank} ({self.host}, process {self.pid}) {self.state}{gap}{self.detail}".rstrip()


class Reports:
    """The reports of one attempt to run all ranks."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    @classmethod
    def of_this_process(cls) -> Reports:
        """Those of the launch that started this rank."""
        return cls(os.environ[FOLDER_VARIABLE])

    def write(self, report: Report) -> None:
        """Replace what was known of this rank."""
        url = storage.join(self.folder, f"rank-{report.rank}.json")
        write_commit_record(url, asdict(report))

    def read(self) -> dict[int, Report]:
        """What is known now, by rank."""
        names = [name for name in storage.list_names(self.folder) if name.endswith(".json")]
        found = (read_commit_record(storage.join(self.folder, name)) for name in names)
        return {values["rank"]: Report(**values) for values in found if values is not None}

    def complete(self, rank: int, exit_code: int, pid: int) -> None:
        """Speak for a rank that ended with ``exit_code`` (negative: a signal) and could not say so itself."""
        known = self.read().get(rank)
        if known is not None and known.final:
            return
        if exit_code < 0:
            report = Report(rank, "killed", f"by {signal.Signals(-exit_code).name}", pid=pid)
        else:
            report = Report(rank, "exited", f"with code {exit_code}", pid=pid)
        self.write(report)

    def wait_for_all(self, ranks: int, seconds: float) -> None:
        """Give the other ranks time for a last word, at most ``seconds``."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if sum(report.final for report in self.read().values()) == ranks:
                return
            time.sleep(0.2)
