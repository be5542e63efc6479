"""The benchmarks are scripts that nothing else imports: what they use of the package is there."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
IMPORT_ALL = """
import importlib, sys
folder, *names = sys.argv[1:]
sys.path.insert(0, folder)
for name in names:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as missing:  # of what a benchmark compares with
        if missing.name in names or missing.name.split(".")[0] == "duplex":
            raise
print(len(names))
"""


def test_what_they_import_is_there():
    pytest.importorskip("torch")
    names = sorted(path.stem for path in BENCHMARKS.glob("*.py"))
    command = [sys.executable, "-c", IMPORT_ALL, str(BENCHMARKS), *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == str(len(names)) != "0"
