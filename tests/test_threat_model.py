"""What the threat model says to hold is held by a test: each that it names is there, and is to pass."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_named_test_is_there(file, name):
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    (found,) = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
    ]
    assert not [mark for mark in map(ast.unparse, found.decorator_list) if "xfail" in mark]


def test_every_row_of_what_holds_names_its_test():
    part = PAGE.partition("## What was attacked, and holds")[2].partition("## What is not defended against")[0]
    rows = [
        line for line in part.splitlines() if line.startswith("| ") and not line.startswith(("| attack", "| fault"))
    ]
    assert len(rows) > 30
    assert [row for row in rows if not re.search(r"\| `tests/[\w/]+\.py::\w+` \|$", row)] == []
    assert len(set(NAMED)) == len(rows)
