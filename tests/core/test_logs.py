"""Jobs show what the package logs; a process that is somebody else's keeps its own settings."""

from __future__ import annotations

import subprocess
import sys

SENTENCES = "import logging; log = logging.getLogger('gan_lib.some.room'); log.info('cached'); log.warning('slow')"


def said_by(*lines: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    return done.stderr.splitlines()


def test_a_job_shows_what_the_package_logs_once():
    job = f"def main():\n    {SENTENCES}"
    assert said_by("from gan_lib.core.errors import run_job", job, "run_job(main)", "run_job(main)") == [
        *("cached", "slow", "cached", "slow")
    ]


def test_without_a_job_information_stays_unsaid():
    assert said_by("import gan_lib.core.errors", SENTENCES) == ["slow"]
