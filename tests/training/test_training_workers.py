"""Data that is made in several processes."""

import subprocess
import sys

import psutil

from server_support import until

BUILDING = """
import os, sys, time
from pathlib import Path

import attrs

from duplex.training.data.build import build


@attrs.frozen
class Slow:
    path: Path
    size = 1.0
    requirements = ()

    def make(self):
        self.path.with_suffix(".pid").write_text(str(os.getpid()))
        time.sleep(600)


if __name__ == "__main__":
    build([Slow(Path(sys.argv[1]) / f"{number}.x") for number in range(2)], workers=2)
"""


def test_workers_end_with_the_process_that_they_work_for(tmp_path):
    """Killed, it can tell them nothing."""
    program = tmp_path / "building.py"
    program.write_text(BUILDING)
    made = tmp_path / "made"
    with subprocess.Popen([sys.executable, program, made]) as building:
        until(lambda: len(found := list(made.glob("*.pid"))) == 2 and all(each.read_text() for each in found), 60)
        workers = [int(path.read_text()) for path in made.glob("*.pid")]
        building.kill()
    until(lambda: not any(psutil.pid_exists(worker) for worker in workers))
