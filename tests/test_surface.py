"""What is public is still there: the surface is compared with the one of the last release, by griffe."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import duplex

ROOT = Path(__file__).parent.parent
TOOL = ROOT / "tools" / "surface.py"
SOURCE = ROOT / "src" / "duplex"


def compare(source):
    return subprocess.run(
        [sys.executable, TOOL, "--source", source], capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture
def changed(tmp_path):
    """Return a function that compares a copy of the source in which a text stands for another."""

    def change(file, old, new):
        shutil.copytree(SOURCE, tmp_path / "duplex", ignore=shutil.ignore_patterns("*.safetensors", "__pycache__"))
        path = tmp_path / "duplex" / file
        program = path.read_text(encoding="utf-8")
        assert old in program
        path.write_text(program.replace(old, new), encoding="utf-8")
        return compare(tmp_path)

    return change


def test_nothing_that_was_public_is_gone():
    done = compare(SOURCE.parent)
    assert done.returncode == 0, (
        f"{done.stdout}{done.stderr}\nKeep it, as docs/reference/promises.md says; or tell the break in CHANGELOG.md "
        "and run `make surface`"
    )


def test_every_exported_name_is_in_the_snapshot():
    known = json.loads((ROOT / "tests" / "data" / "surface.json").read_text())["members"]
    assert set(duplex.__all__) - {"__version__"} == set(known), "a name is new: run `make surface`"
    for package in ("bench", "measuring", "process", "scoring", "server", "testing", "training"):
        assert set(getattr(duplex, package).__all__) <= set(known[package]["members"]), package


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("__init__.pyi", "    KeyPressed as KeyPressed,\n", "    KeyPressed as KeyWasPressed,\n", "KeyPressed"),
        ("conversation/local.py", "async def export(self,", "async def save(self,", "Conversation.export"),
        ("options.py", "    top_k: ", "    top_candidates: ", "SessionOptions.top_k"),
        ("events.py", "    dropped: ", "    lost: ", "Lag.dropped"),
        ("engine/loading.py", "    sessions: ", "    capacity: ", "load(sessions)"),
    ],
)
def test_what_is_gone_is_told(changed, file, old, new, told):
    """A name, a method, an option, a field of an event and an argument of a function."""
    done = changed(file, old, new)
    assert done.returncode == 1, done.stdout + done.stderr
    assert told in done.stdout


def test_what_is_new_breaks_nothing(changed):
    done = changed("options.py", "    top_k: ", "    top_p: float = 1.0\n    top_k: ")
    assert done.returncode == 0, done.stdout
