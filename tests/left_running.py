"""Processes of the launcher that outlived it: tests look for them by the folder that they report to."""

from __future__ import annotations

from pathlib import Path

import psutil


def left_running(folder: Path) -> list[str]:
    """The command lines of all agents and ranks of a launch below ``folder`` that still live."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        command = " ".join(process.info["cmdline"] or [])
        reports = (process.info["environ"] or {}).get("GAN_LIB_RANK_REPORTS", "")
        if "-m gan_lib.training.launch" in command and str(folder) in command + reports:
            found.append(command)
    return found
