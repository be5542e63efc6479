"""``duplex doctor``: what works here, what is missing, and the command that mends it."""

import importlib
import os
import platform
import shutil
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import attrs
import click

from duplex.backends import mlx
from duplex.cli.check import Check
from duplex.cli.memory import memory_checks
from duplex.cli.options import debug_option
from duplex.cli.text import one_line, plain, print_json, size
from duplex.errors import AudioDeviceError, HubError, MissingDependencyError, UsageError
from duplex.extras import install_command
from duplex.options import MAX_SESSIONS

__all__ = ["doctor"]

OLDEST_PYTHON = (3, 11)
NEEDED = {
    "numpy": "numpy",
    "anyio": "anyio",
    "attrs": "attrs",
    "click": "click",
    "rich": "rich",
    "safetensors": "safetensors",
    "sentencepiece": "sentencepiece",
    "soxr": "soxr",
    "huggingface-hub": "huggingface_hub",
}
"""Packages, and the module whose import shows that they work."""
OPTIONAL = {
    "trio": ("trio", "conversations on trio"),
    "uvicorn": ("serve", "serving conversations"),
    "opuslib": ("client", "conversations on a server"),
    "textual": ("talk", "the screen of duplex talk"),
    "mlx": ("mlx", "running on Apple silicon"),
    "hibari-tts": ("train", "making data to train on"),
}
"""Packages, the extra that brings each, and what it is for."""
PROGRAMS = ("flite", "espeak-ng")
HUB_SECONDS = 5.0


@click.command(short_help="Tell what works here and what is missing.")
@click.option(
    "--model", "models", multiple=True, help="Whether there is memory for it, too. May be given again: for all of them."
)
@click.option("--sessions", type=click.IntRange(1, MAX_SESSIONS), default=1, show_default=True, help="Of each model.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@debug_option
def doctor(models: tuple[str, ...], sessions: int, as_json: bool) -> int:
    """Tell what works here, what is missing, and the command that mends it.

    The exit status is 0 if everything that is needed works.

    \b
    Examples:
      duplex doctor
      duplex doctor --model kyutai/moshika-pytorch-bf16 --model kyutai/stt-1b-en_fr --sessions 4
      HF_HUB_OFFLINE=1 duplex doctor --json
    """  # noqa: D301 -- \b is click's mark for lines that stay as they are
    checks = [*_checks(), *memory_checks(models, sessions)]
    well = all(check.state != "broken" for check in checks)
    if as_json:
        print_json({"ok": well, "checks": [attrs.asdict(check) for check in checks]})
        return 0 if well else 1
    width = max(len(check.name) for check in checks)
    marks = {"ok": "ok     ", "note": "note   ", "broken": "BROKEN "}
    for check in checks:
        click.echo(plain(f"{marks[check.state]}{check.name:<{width}}  {check.found}"))
        if check.mend:
            click.echo(plain(f"{'':<{width + 9}}-> {check.mend}"))
    click.echo("everything needed works" if well else "mend what is marked BROKEN, and run this again")
    return 0 if well else 1


def _checks() -> Iterator[Check]:
    yield _python()
    for package, module in NEEDED.items():
        yield _guarded(package, _package, package, module)
    for package, (extra, purpose) in OPTIONAL.items():
        yield _optional(package, extra, purpose)
    for program in PROGRAMS:
        yield _program(program)
    yield _guarded("torch", _torch)
    yield _guarded("gpu", _gpu)
    yield _guarded("backend", _backend)
    yield _guarded("ffmpeg", _ffmpeg)
    yield _guarded("audio devices", _audio_devices)
    yield _guarded("machine", _machine)
    yield _guarded("voice activity", _voice_activity)
    yield _guarded("built-in model", _built_in)
    yield _guarded("cache", _cache)
    yield _guarded("hub", _hub)


def _guarded(name: str, check: Callable[..., Check], *arguments: str) -> Check:
    """Make a check; whatever it raises is a finding."""
    try:
        return check(*arguments)
    except PackageNotFoundError:
        return Check(name, "broken", "not installed", f"pip install {name}")
    except Exception as error:  # noqa: BLE001 -- a broken installation may raise anything
        found = one_line(f"{type(error).__name__}: {error}")
        return Check(name, "broken", found, f"{install_command()} --force-reinstall")


def _python() -> Check:
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info < OLDEST_PYTHON:
        return Check("python", "broken", found, "install Python 3.11 or newer")
    return Check("python", "ok", found)


def _package(name: str, module: str) -> Check:
    found = version(name)
    importlib.import_module(module)
    return Check(name, "ok", found)


def _optional(name: str, extra: str, purpose: str) -> Check:
    try:
        return Check(name, "ok", version(name))
    except PackageNotFoundError:
        return Check(name, "note", f"not installed; only for {purpose}", install_command(extra))


def _program(name: str) -> Check:
    path = shutil.which(name)
    if path is None:
        return Check(name, "note", "not installed; only for making data to train on", f"apt-get install {name}")
    return Check(name, "ok", path)


def _torch() -> Check:
    if find_spec("torch") is None:
        return _no_torch()
    torch: Any = importlib.import_module("torch")
    cuda: str | None = torch.version.cuda
    build = "CPU build" if cuda is None else f"build for CUDA {cuda}"
    found = f"{version('torch')} ({build}), {torch.get_num_threads()} threads"
    if cuda is not None and shutil.which("nvidia-smi") is None and platform.system() == "Linux":
        mend = "pip install uv && uv pip install --torch-backend cpu --reinstall-package torch torch"
        return Check("torch", "note", f"{found}; without a GPU the CPU build does the same in 4 GB less", mend)
    return Check("torch", "ok", found)


def _no_torch() -> Check:
    """Return a note if MLX can run models instead; otherwise nothing can."""
    mend = install_command("torch")
    try:
        mlx.require()
    except (MissingDependencyError, UsageError):
        return Check("torch", "broken", "not installed, and no other backend can run a model here", mend)
    return Check("torch", "note", "not installed; models run with MLX", mend)


def _gpu() -> Check:
    if find_spec("torch") is None:
        return Check("gpu", "note", "not known without torch")
    torch: Any = importlib.import_module("torch")
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return Check("gpu", "ok", f"{', '.join(names)} (CUDA {torch.version.cuda})")
    if shutil.which("nvidia-smi") is None:
        return Check("gpu", "note", "none found; models run on the CPU")
    if torch.version.cuda is None:
        mend = "install PyTorch for CUDA, by the command that its site gives for your driver"
        return Check("gpu", "note", "there is an NVIDIA driver, but this torch is for the CPU", mend)
    return Check("gpu", "note", "there is an NVIDIA driver, but torch cannot use it", "nvidia-smi   # see what it says")


def _backend() -> Check:
    from duplex.backends.selection import select_backend  # noqa: PLC0415 -- `duplex --help` need not wait for it

    chosen = select_backend("auto", "auto")
    if chosen.backend == "torch" and find_spec("torch") is None:
        return Check("backend", "note", f"torch would be used, and is not installed: {chosen.why}", chosen.mend)
    return Check("backend", "ok", f"{chosen.backend}: {chosen.why}", chosen.mend)


def _ffmpeg() -> Check:
    av: Any = importlib.import_module("av")
    libraries: dict[str, tuple[int, ...]] = av.library_versions
    missing = [codec for codec in ("flac", "mp3", "opus", "vorbis", "aac") if codec not in av.codecs_available]
    found = f"av {version('av')}, libavcodec {'.'.join(str(part) for part in libraries['libavcodec'])}"
    if missing:
        mend = "pip install --force-reinstall --only-binary av av"
        return Check("ffmpeg", "note", f"{found}; cannot read {', '.join(missing)}", mend)
    return Check("ffmpeg", "ok", found)


def _audio_devices() -> Check:
    from duplex.transports import list_devices  # noqa: PLC0415 -- `duplex --help` need not wait for it

    try:
        devices = list_devices()
    except MissingDependencyError:
        return Check("audio devices", "note", "sounddevice not installed; only for talking", install_command("talk"))
    except AudioDeviceError as error:
        return Check("audio devices", "note", one_line(error))
    heard = next((device.name for device in devices if device.is_default_input), None)
    played = next((device.name for device in devices if device.is_default_output), None)
    if heard is None or played is None:
        missing = "microphone" if heard is None else "loudspeaker"
        mend = "connect one, or start the sound server; duplex talk --list-devices"
        return Check("audio devices", "note", f"no default {missing}; only for talking", mend)
    return Check("audio devices", "ok", f"microphone {heard}, loudspeaker {played}")


def _machine() -> Check:
    affinity: Any = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    memory = "unknown"
    if hasattr(os, "sysconf"):
        memory = size(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return Check("machine", "ok", f"{platform.system()} {platform.machine()}, {cores} cores, {memory} of memory")


def _voice_activity() -> Check:
    activity: Any = importlib.import_module("duplex.voice_activity.silero")
    activity.SileroVoiceActivity(24000)
    return Check("voice activity", "ok", "the detector's weights are there")


def _built_in() -> Check:
    from duplex.checkpoints.checkpoint import builtin_names, resolve  # noqa: PLC0415 -- `duplex --help` need not wait for it

    names = builtin_names()
    if not names:
        return Check("built-in model", "broken", "none", f"{install_command()} --force-reinstall")
    for name in names:
        resolve(name)
    return Check("built-in model", "ok", ", ".join(names))


def _cache() -> Check:
    from duplex.checkpoints.hub_client import hub_cache  # noqa: PLC0415 -- only this check needs the hub's client

    try:
        folder = hub_cache()
    except HubError as error:
        return Check("cache", "note", str(error), "export HF_HOME=/path/to/models")
    existing = next((place for place in (folder, *folder.parents) if place.exists()), folder)
    if not os.access(existing, os.W_OK):
        return Check("cache", "note", f"{folder} may not be written", "export HF_HOME=~/models")
    return Check("cache", "ok", f"{folder}, {size(shutil.disk_usage(existing).free)} free")


def _hub() -> Check:
    constants: Any = importlib.import_module("huggingface_hub.constants")
    endpoint: str = constants.ENDPOINT
    if constants.HF_HUB_OFFLINE:
        return Check("hub", "note", "HF_HUB_OFFLINE is set: only what is cached is used", "unset HF_HUB_OFFLINE")
    problem = _reach(endpoint)
    if problem:
        mend = f"curl -I {endpoint}   # check network, proxy and HF_ENDPOINT; built-in models and folders work without"
        return Check("hub", "note", f"{endpoint} cannot be reached ({problem})", mend)
    return Check("hub", "ok", f"{endpoint} answers")


def _reach(endpoint: str) -> str:
    """Return why an address does not answer, "" if it does. Asks on a thread, as looking up names has no time limit."""
    problem = [f"no answer within {HUB_SECONDS:g} s"]

    def ask() -> None:
        try:
            request = urllib.request.Request(endpoint, method="HEAD")  # noqa: S310 -- the user's own setting
            with urllib.request.urlopen(request, timeout=HUB_SECONDS):  # noqa: S310
                problem[0] = ""
        except urllib.error.HTTPError as error:
            problem[0] = f"HTTP {error.code}" if error.code >= 500 else ""  # noqa: PLR2004 -- servers' own errors
        except (OSError, ValueError) as error:
            problem[0] = one_line(getattr(error, "reason", None) or error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(HUB_SECONDS)
    return problem[0]
