"""The documentation's code runs as tests: README.md and docs/.

Every ``python`` block runs, in order, in one namespace for each document; every line of a ``console`` block that begins
with ``$`` runs as a command and must succeed. Each document has a working directory of its own, with ``examples/`` and
``question.wav`` in it. Commands that are not for this machine (downloads, a server) stand in ``shell`` blocks.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

ROOT = Path(__file__).parent
HANGS_SECONDS = 3000
"""After which a command is taken to hang, on the slowest machine."""
SLOW = (
    "docs/how-to/another-domain.md",
    "docs/how-to/many-conversations.md",
    "docs/how-to/measure.md",
    "docs/how-to/process-a-folder.md",
    "docs/how-to/process-on-a-cluster.md",
    "docs/how-to/train-a-codec.md",
    "docs/how-to/train-a-language-model.md",
)
"""Documents whose commands train, measure or process for long."""
PROGRAMS = {"duplex": [sys.executable, "-m", "duplex"], "python": [sys.executable]}


def run_commands(example: Example) -> None:
    """Run the commands of a ``console`` block, in the document's working directory."""
    lines = str(example.parsed).replace("\\\n", " ").splitlines()
    for line in lines:
        if line.startswith("$ "):
            program, *arguments = shlex.split(line.removeprefix("$ "))
            # A relative path to a module stays good: the tree under test is the one that is imported.
            done = subprocess.run(  # noqa: S603 -- the documentation's own commands
                [*PROGRAMS[program], *arguments], capture_output=True, text=True, check=False, timeout=HANGS_SECONDS
            )
            assert done.returncode == 0, f"{line}\nexit status {done.returncode}\n{done.stdout}{done.stderr}"  # noqa: S101


def enter_working_directory(namespace: dict[str, Any]) -> None:
    """Give a document a directory of its own to work in."""
    folder = Path(tempfile.mkdtemp(prefix="duplex-docs-"))
    shutil.copytree(ROOT / "examples", folder / "examples")
    shutil.copy(ROOT / "examples" / "question.wav", folder)
    namespace["__working_directory"], namespace["__came_from"] = folder, Path.cwd()
    os.chdir(folder)


def leave_working_directory(namespace: dict[str, Any]) -> None:
    """Go back, and remove what the document has written."""
    os.chdir(namespace["__came_from"])
    shutil.rmtree(namespace["__working_directory"])


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return the workers of ``-n auto``: one more than cores, as tests often wait; the slow ones compute."""
    return (os.cpu_count() or 1) + (config.option.markexpr == "not slow")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the slow documents; whole documents, as their blocks go on from each other."""
    for item in items:
        if item.path.is_relative_to(ROOT) and item.path.relative_to(ROOT).as_posix() in SLOW:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(HANGS_SECONDS))


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), CodeBlockParser("console", run_commands), SkipParser()],
    patterns=["README.md", "docs/**/*.md", "docs/*.md"],
    setup=enter_working_directory,
    teardown=leave_working_directory,
).pytest()
