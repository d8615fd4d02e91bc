"""docs/promises.md names a test for each promise, and each of these tests exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_each_test_that_stands_for_a_promise_exists(repository: Path):
    promises = (repository / "docs" / "promises.md").read_text()
    named = NAMED.findall(promises)
    assert len(named) == promises.count("::") > 20, "a test is named in another way than `tests/FILE.py::NAME`"
    missing = [f"{file}::{name}" for file, name in named if name not in functions_in(repository / file)]
    assert not missing


def functions_in(file: Path) -> set[str]:
    """The names of a test file's tests; none where there is no such file."""
    if not file.exists():
        return set()
    return {node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)}
