"""``gan-lib COMMAND ...``, and the same as ``python -m gan_lib``: one line here for each command.

A command is a module with ``main(argv)``, imported only when it is asked for, so that none waits for another's imports.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence
from functools import partial
from importlib import metadata
from typing import NamedTuple

from gan_lib.core.errors import UserError, run_job


class Command(NamedTuple):
    """What ``gan-lib NAME`` does."""

    module: str
    sentence: str


COMMANDS = {
    "enlarge": Command("gan_lib.cli.enlarge", "Make photos larger by a net that comes with the package."),
    "register": Command("gan_lib.cli.register", "Make a net that comes with the package a registered model of MLflow."),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command that the first word names, and leave the process with its exit code."""
    run_job(partial(_run, sys.argv[1:] if argv is None else argv))


def _run(argv: Sequence[str]) -> None:
    name = argv[0] if argv else "--help"
    if name in ("-h", "--help"):
        print(overview())
    elif name == "--version":
        print(f"gan-lib {metadata.version('gan_lib')}")
    else:
        importlib.import_module(_command(name).module).main(argv[1:])


def overview() -> str:
    """What ``gan-lib --help`` prints: each command with its sentence."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.sentence}" for name, command in COMMANDS.items()]
    return "\n".join(["usage: gan-lib COMMAND ...", "", *lines, "", "gan-lib COMMAND --help says more of each."])


def _command(name: str) -> Command:
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(COMMANDS)}."
        raise UserError(f"gan-lib has no command {name!r}; {hint}")
    return COMMANDS[name]
