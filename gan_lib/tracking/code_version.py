"""Which code made a run: the git commit where the package lies in a checkout, else the package's version."""

from __future__ import annotations

import subprocess
from pathlib import Path

import gan_lib


def code_version() -> dict[str, str]:
    """Tags that name the code: the version always; the commit, and whether files differ from it, where known."""
    tags = {"gan_lib.version": gan_lib.__version__}
    commit = _git("rev-parse", "HEAD")
    if commit is None or _git("ls-files", "--error-unmatch", "__init__.py") is None:
        return tags  # installed, perhaps below a checkout of something else
    tags["mlflow.source.git.commit"] = commit
    tags["gan_lib.uncommitted_changes"] = str(bool(_git("status", "--porcelain", "--", "."))).lower()
    return tags


def _git(*arguments: str) -> str | None:
    folder = Path(gan_lib.__file__).parent
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
