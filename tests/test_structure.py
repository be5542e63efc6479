"""The house: which modules there are, and that none imports another that imports it back."""

import ast
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src"
LONGEST_TEST = 400


def modules():
    """Return every module's file, by its dotted name."""
    found = {}
    for path in sorted((SOURCE / "duplex").rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported_by(path, known):
    """Return what a file imports of the package, anywhere in it: in functions and for type checkers alone too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_no_module_imports_one_that_imports_it_back():
    known = modules()
    graph = {name: {other for other in imported_by(path, known) if other in known} for name, path in known.items()}
    try:
        TopologicalSorter({name: needs - {name} for name, needs in graph.items()}).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")


def test_few_modules_lie_at_the_root():
    assert len(list((SOURCE / "duplex").glob("*.py"))) <= 13


def test_test_files_are_of_one_subject():
    long = {path.name: len(path.read_text().splitlines()) for path in Path(__file__).parent.rglob("*.py")}
    assert {name: lines for name, lines in long.items() if lines > LONGEST_TEST} == {}


def test_modules_of_tests_have_names_of_their_own():
    """Pytest puts each folder of tests on the path: of two modules of one name, the second is never imported."""
    names = Counter(path.name for path in Path(__file__).parent.rglob("*.py") if path.name != "conftest.py")
    assert [name for name, times in names.items() if times > 1] == []
