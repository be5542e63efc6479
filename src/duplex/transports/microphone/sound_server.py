"""The names of a Linux sound server's devices: PulseAudio's, or those of PipeWire in its place.

PortAudio reaches a sound server through ALSA, as one device. The server's own are listed by ``pactl``; libpulse takes
which one is meant from the environment, when a stream is opened.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from duplex.transports.microphone.devices import AudioDevice, Direction

__all__ = ["ALIASES", "chosen_device", "devices_by_number", "server_devices", "streams_of"]

ALIASES = ("pulse", "pipewire", "default")
"""ALSA's devices that lead to the sound server, in the order in which they are taken."""
_VARIABLES: dict[Direction, str] = {"input": "PULSE_SOURCE", "output": "PULSE_SINK"}
_SECONDS = 3.0


def server_devices(first_index: int) -> list[AudioDevice]:
    """Return the sound server's devices, numbered from ``first_index``; none without ``pactl`` or a server."""
    if shutil.which("pactl") is None:
        return []
    info = _pactl("info")
    entries = [(each, "input") for each in _listed("sources")] + [(each, "output") for each in _listed("sinks")]
    defaults = {"input": info.get("default_source_name"), "output": info.get("default_sink_name")}
    return [
        _device(first_index + number, entry, direction, is_default=entry["name"] == defaults[direction])
        for number, (entry, direction) in enumerate(entries)
    ]


def devices_by_number(direction: Direction) -> dict[int, AudioDevice]:
    """Return the server's devices of a direction by the numbers that the server gives them."""
    kind = "sources" if direction == "input" else "sinks"
    return {
        int(entry["index"]): _device(int(entry["index"]), entry, direction, is_default=False)
        for entry in _listed(kind)
        if "index" in entry
    }


def streams_of(process: int, kind: str) -> list[dict[str, Any]]:
    """Return what the server says of a process's ``source-outputs`` or ``sink-inputs``."""
    found = [cast("dict[str, Any]", entry) for entry in _pactl("list", kind) if isinstance(entry, dict)]
    return [entry for entry in found if _property(entry, "application.process.id") == str(process)]


@contextmanager
def chosen_device(device: AudioDevice, direction: Direction) -> Generator[None]:
    """Tell libpulse which of the server's devices the stream that is opened in this block is for."""
    variable = _VARIABLES[direction]
    before = os.environ.get(variable)
    if device.server_name:
        os.environ[variable] = device.server_name
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(variable, None)
        else:
            os.environ[variable] = before


def _device(index: int, entry: dict[str, Any], direction: str, *, is_default: bool) -> AudioDevice:
    specification = str(entry.get("sample_specification", ""))
    rate, channels = re.search(r"(\d+)\s*Hz", specification), re.search(r"(\d+)\s*ch", specification)
    count = int(channels[1]) if channels else 1
    return AudioDevice(
        index=index,
        name=str(entry.get("description") or entry["name"]),
        inputs=count if direction == "input" else 0,
        outputs=count if direction == "output" else 0,
        sample_rate=float(rate[1]) if rate else 48000.0,
        is_default_input=is_default and direction == "input",
        is_default_output=is_default and direction == "output",
        server_name=str(entry["name"]),
        is_monitor=direction == "input" and _property(entry, "device.class") == "monitor",
    )


def _property(entry: dict[str, Any], name: str) -> str:
    return str(entry.get("properties", {}).get(name, ""))


def _listed(kind: str) -> Sequence[dict[str, Any]]:
    found = _pactl("list", kind)
    return [cast("dict[str, Any]", each) for each in found if isinstance(each, dict) and "name" in each]


def _pactl(*arguments: str) -> Any:
    """Return what ``pactl`` says as JSON, empty where it cannot: an old one has no JSON."""
    command = ["pactl", "--format=json", *arguments]
    try:
        run = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=True)  # noqa: S603
        return json.loads(run.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return {}
