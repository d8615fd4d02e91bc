"""Errors a user can act on, and the exit codes that a scheduler reads.

Not for programming mistakes: those stay ordinary exceptions, keep their traceback and exit with 1.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable

from gan_lib.core.logs import show_sentences


class UserError(Exception):
    """The request cannot be met. The message is one sentence: which file, key or value, and what to do."""

    exit_code = 2


class Rejected(UserError):
    """One file or row that cannot be used, though the others can: a row with a reason, not the end of a job.

    ``reason`` is a short slug to count by; ``message`` says more.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message

    def __reduce__(self) -> tuple[type[Rejected], tuple[str, str]]:
        return type(self), (self.reason, self.message)  # crosses process borders whole


class TooManyRejects(UserError):
    """The job finished, but a larger share of its input was rejected than the configuration allows."""

    exit_code = 3


class DecisionNeeded(UserError):
    """The job stopped before doing anything, because only a person can say which of two ways is meant."""

    exit_code = 4


class StoreUnavailable(OSError):
    """A store does not answer or refuses: what lies there cannot be had now, and is not known to be bad."""


class MachineInTrouble(OSError):
    """This machine is out of disk, memory or file handles: no input is at fault, and the job must end."""


class RankLost(ConnectionError):
    """Another rank is gone or silent. This one did nothing wrong: with the others it may start again."""


def run_job(main: Callable[[], None]) -> None:
    """Run a job's ``main`` and leave the process with the exit code that a scheduler needs.

    0: all well. 1: unexpected failure, with its traceback. 2: the request was wrong (:class:`UserError`).
    3: :class:`TooManyRejects`. 4: :class:`DecisionNeeded`. What the package logs is shown on stderr meanwhile.
    """
    show_sentences()
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("error: interrupted.", file=sys.stderr, flush=True)
        sys.exit(130)
    except Exception:
        traceback.print_exc()
        sys.exit(1)
