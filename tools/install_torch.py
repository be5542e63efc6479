"""Install the build of PyTorch that fits this machine, and tell which one that was and how large it is.

    python tools/install_torch.py

On a machine without a GPU the ordinary Linux build carries gigabytes of CUDA libraries that nothing would use. So the
builds are tried in this order, the first that is to be had is taken, and one that is installed already stays:

1. without a GPU, a CPU build that pip finds where it is configured to look (an index or a folder of your own);
2. what uv's ``--torch-backend auto`` chooses for this machine, from PyTorch's own index: the CPU build, or the one for
   the driver that is here;
3. the ordinary build, from the package index.
"""

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

CONSTRAINTS = Path(__file__).resolve().parent.parent / "constraints.txt"
PIP = [sys.executable, "-m", "pip"]
GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""What the drivers of NVIDIA, of AMD, and of Windows' subsystem for Linux leave here."""
WITH_TORCH = ("torch", "triton", "nvidia-", "cuda-")
"""How the names of the packages begin that only come with a build of PyTorch."""


def main() -> int:
    """Install PyTorch unless it is there, and print what is there then."""
    if _installed() is None:
        _install()
        importlib.invalidate_caches()
    found = _installed()
    if found is None:
        print("PyTorch could not be installed; what pip said stands above", file=sys.stderr)
        return 1
    print(f"PyTorch {found}")
    return 0


def _install() -> None:
    gpu = _gpu()
    if gpu is None and platform.system() == "Linux":
        print("No GPU found: looking for PyTorch's CPU build", flush=True)
        if _pip_would_take_cpu_build():
            _run(*PIP, "install", "--quiet", "--no-deps", "-c", CONSTRAINTS, "torch")
            return
    else:
        print(f"{gpu or platform.system()}: looking for the PyTorch build that fits", flush=True)
    reason = _install_by_uv()
    if reason is None:
        return
    print(f"PyTorch's own index gave none ({reason})")
    print("Taking the ordinary build from the package index; on Linux that is a download of gigabytes", flush=True)
    subprocess.run([*PIP, "install", "--quiet", "-c", CONSTRAINTS, "torch"], check=False)


def _gpu() -> str | None:
    """Return what shows that there is a GPU, or None."""
    if shutil.which("nvidia-smi") is not None and _run("nvidia-smi", "-L").returncode == 0:
        return "nvidia-smi"
    return next((device for device in GPU_DEVICES if os.path.exists(device)), None)  # noqa: PTH110 -- devices, no files


def _pip_would_take_cpu_build() -> bool:
    dry_run = ["--quiet", "--dry-run", "--ignore-installed", "--no-deps", "--report", "-"]
    asked = _run(*PIP, "install", *dry_run, "-c", CONSTRAINTS, "torch")
    if asked.returncode != 0:
        return False
    (torch,) = json.loads(asked.stdout)["install"]
    return str(torch["metadata"]["version"]).endswith("+cpu")


def _install_by_uv() -> str | None:
    """Return why PyTorch's index gave nothing, or None when it did."""
    command = ["uv", "pip", "install", "--python", sys.executable, "--torch-backend", "auto", "--no-deps"]
    done = _run(sys.executable, "-m", *command, "-c", CONSTRAINTS, "torch")
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines()
    return lines[-1].strip().removeprefix("cause: ") if lines else f"uv ended with {done.returncode}"


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _installed() -> str | None:
    """Return version, kind and size of the PyTorch in this environment, or None."""
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return None
    sizes = dict(_sizes())
    torch = sizes.pop("torch")
    text = f"{version}, {torch / 1e9:.1f} GB"
    return f"{text}, and {sum(sizes.values()) / 1e9:.1f} GB of CUDA libraries and Triton beside it" if sizes else text


def _sizes() -> Iterator[tuple[str, int]]:
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"].lower()
        if name.startswith(WITH_TORCH):
            yield name, sum(_size(Path(str(file.locate()))) for file in distribution.files or [])


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


if __name__ == "__main__":
    sys.exit(main())
