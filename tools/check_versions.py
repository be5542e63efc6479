"""Try the lowest and the newest versions of every dependency that pyproject.toml allows, and tell which those were.

    python tools/check_versions.py [--only lowest] [--folder out/versions]

For each a fresh virtual environment is made and the package run in it: a recording by `duplex process`, on each backend
that is there; a call to a server in the same process; a conversation that is saved and goes on (tools/exercise.py); the
screen of `duplex talk` and its echo canceller (tools/exercise_talk.py).
"lowest" is on the oldest Python that the project supports, if uv finds one, "newest" on the newest that uv finds. What
is already installed in the folder is used again, so that a second run takes a minute; remove it to begin anew. PyTorch
is the ordinary build: together they take about 15 GB.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECORDING = ROOT / "examples" / "question.wav"
UV = [sys.executable, "-m", "uv"]
EXTRAS = ("client", "mlx", "plot", "serve", "talk", "torch", "trio")
"""All but `train`, whose packages are voices and models of gigabytes."""
RESOLUTIONS = {"lowest": ("lowest-direct", ("3.11",)), "newest": ("highest", ("3.14", "3.13", "3.12", "3.11"))}
BACKENDS = ("torch", "mlx")
LONGEST = 600
"""Seconds for one check."""


def main() -> int:
    """Print a table of versions, and a line for each check; return 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(RESOLUTIONS))
    parser.add_argument("--newest-python", default="", help="An interpreter that uv does not find.")
    parser.add_argument("--folder", type=Path, default=ROOT / "out" / "versions")
    given = parser.parse_args()
    which = [given.only] if given.only else list(RESOLUTIONS)
    failed = [name for name in which if not _try(name, given.folder.absolute() / name, given.newest_python)]
    print(f"FAILED: {', '.join(failed)}" if failed else "PASSED")
    return 1 if failed else 0


def _try(name: str, environment: Path, newest_python: str) -> bool:
    """Install, tell what, and run every check, also after one has failed."""
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    resolution, pythons = RESOLUTIONS[name]
    if not python.exists():
        candidates = (newest_python, *pythons) if name == "newest" and newest_python else pythons
        found = next(python for python in candidates if _run(*UV, "python", "find", python).returncode == 0)
        _must(*UV, "venv", "--quiet", "--python", found, environment)
    extras = [word for extra in EXTRAS for word in ("--extra", extra)]
    pip = [*UV, "pip", "install", "--quiet", "--python", python]
    _must(*pip, "--resolution", resolution, "-r", ROOT / "pyproject.toml", *extras)
    _must(*pip, "--no-deps", "-e", ROOT)
    print(f"{name}: {', '.join(_versions(python))}", flush=True)
    results = environment / "results"
    checks: dict[str, list[str | Path]] = {
        f"recording, {backend}": [
            *("-m", "duplex", "process", RECORDING, "--out", results / backend, "--backend", backend, "--force")
        ]
        for backend in BACKENDS
    }
    checks["plot"] = ["-m", "duplex", "plot", results / "torch" / RECORDING.stem]
    checks["screen of a call"] = [ROOT / "tools" / "exercise_talk.py"]
    checks["call and state"] = [ROOT / "tools" / "exercise.py", RECORDING]
    passed = [_passes(name, check, python, arguments) for check, arguments in checks.items()]
    return all(passed)


def _passes(name: str, check: str, python: Path, arguments: list[str | Path]) -> bool:
    done = _run(python, *arguments, cwd=python.parent.parent, timeout=LONGEST)
    print(f"{name}: {check}: {'passed' if done.returncode == 0 else 'FAILED'}", flush=True)
    if done.returncode != 0:
        print(done.stdout + done.stderr, flush=True)
    return done.returncode == 0


def _versions(python: Path) -> Iterator[str]:
    """Yield Python's version, and that of each package that pyproject.toml names for this system."""
    script = "import json, platform, importlib.metadata as m; print(json.dumps({'python': platform.python_version()} | "
    script += "{d.metadata['Name'].lower().replace('_', '-'): d.version for d in m.distributions()}))"
    installed: dict[str, str] = json.loads(_must(python, "-c", script))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(one for extra in EXTRAS for one in project["optional-dependencies"][extra])]
    names = dict.fromkeys(["python", *(re.split(r"[^a-z0-9-]", requirement)[0] for requirement in wanted)])
    yield from (f"{name} {installed[name]}" for name in names if name in installed)


def _must(*command: str | Path) -> str:
    done = _run(*command)
    if done.returncode != 0:
        raise SystemExit(done.stderr or f"{command[0]} ended with {done.returncode}")
    return done.stdout


def _run(
    *command: str | Path, cwd: Path | None = None, timeout: float | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, timeout=timeout)


if __name__ == "__main__":
    sys.exit(main())
