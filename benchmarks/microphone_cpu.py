"""What the microphone's transport costs, by thread, beside two bare streams that do nothing.

    python benchmarks/microphone_cpu.py --seconds 20

Starts a PulseAudio of its own. ``streams that do nothing`` are PortAudio's two with empty callbacks, opened alike: what
that, libpulse and sounddevice cost, and no transport can save. The transport's share includes frames of noise that are
sent at the pace of a model. Linux only: the kernel's times of each thread are read.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import attrs
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "transports"))
from sound_server_support import SoundServer

from duplex import MicrophoneTransport
from duplex.transports.microphone.devices import Direction, choose_device
from duplex.transports.microphone.portaudio import PortAudio, PortAudioLine

RATE, FRAME = 24000, 1920
SETTLING = 2.0
NOTHING = "streams that do nothing"


@attrs.frozen
class Cost:
    """Shares of a core, by thread."""

    loop: float
    callbacks: float
    server: float
    """The sound server's library."""

    @property
    def whole(self) -> float:
        """Of all threads."""
        return self.loop + self.callbacks + self.server


def thread_seconds() -> dict[int, tuple[str, float]]:
    """Return the name of each thread, and the seconds that it has computed."""
    found = {}
    for thread in Path("/proc/self/task").iterdir():
        nanoseconds = int((thread / "schedstat").read_text().split()[0])
        found[int(thread.name)] = ((thread / "comm").read_text(), nanoseconds / 1e9)
    return found


async def measure(seconds: float) -> Cost:
    """Return what this process costs from now on."""
    await anyio.sleep(SETTLING)
    before, began = thread_seconds(), time.monotonic()
    await anyio.sleep(seconds)
    after, passed = thread_seconds(), time.monotonic() - began
    shares = {"loop": 0.0, "callbacks": 0.0, "server": 0.0}
    for number, (name, spent) in after.items():
        which = (
            "loop" if number == os.getpid() else "server" if "threaded-ml" in name or "pulse" in name else "callbacks"
        )
        shares[which] += (spent - before.get(number, ("", 0.0))[1]) / passed
    return Cost(**shares)


@asynccontextmanager
async def nothing() -> Any:
    """Have two streams open whose callbacks do nothing."""
    system = PortAudio()
    system.refresh()
    devices = system.devices()
    streams: list[tuple[str, Direction, int]] = [("OutputStream", "output", 2), ("InputStream", "input", 1)]
    for kind, direction, channels in streams:
        device = choose_device(devices, None, direction)
        line = system._lines[direction] = PortAudioLine(device, system._closed)
        line.stream = system._open(kind, device, direction, channels, empty)
    try:
        yield
    finally:
        for line in list(system._lines.values()):
            line.close()


def empty(*_: object) -> None:
    """Do nothing in a callback."""


@asynccontextmanager
async def transport(how: str, *, more: bool) -> Any:
    """Have a conversation's transport open, which is heard and spoken to in frames."""
    line = MicrophoneTransport(
        echo_cancellation=how, noise_suppression=more, gain_control=more, on_notice=lambda _: None
    )
    await line.start(RATE)
    async with anyio.create_task_group() as both:
        both.start_soon(hear, line)
        both.start_soon(speak, line)
        try:
            yield
        finally:
            both.cancel_scope.cancel()
    await line.aclose()


async def hear(line: MicrophoneTransport) -> None:
    """Take what is heard, in frames as a conversation does."""
    while True:
        line.expect(FRAME)
        await line.receive()


async def speak(line: MicrophoneTransport) -> None:
    """Send frames of noise at the pace of a model."""
    began, frame = anyio.current_time(), 0
    noise = np.random.default_rng(0).normal(0, 0.1, FRAME).astype(np.float32)
    while True:
        await line.send(noise)
        frame += 1
        await anyio.sleep(max(0.0, began + frame * FRAME / RATE - anyio.current_time()))


async def compare(seconds: float, runs: int) -> None:
    """Print the medians of some runs, taken by turns."""
    kinds: dict[str, Callable[[], Any]] = {
        NOTHING: nothing,
        "echo cancellation, noise suppression, gain control": partial(transport, "webrtc", more=True),
        "echo cancellation alone": partial(transport, "webrtc", more=False),
        "none of them": partial(transport, "off", more=False),
    }
    found: dict[str, list[Cost]] = {name: [] for name in kinds}
    for _ in range(runs):
        for name, open_it in kinds.items():
            async with open_it():
                found[name].append(await measure(seconds))
            print(f"{name}: {found[name][-1]}, load {os.getloadavg()[0]:.0f}", file=sys.stderr, flush=True)
    floor = float(np.median([each.whole for each in found[NOTHING]]))
    print("| | all threads | event loop | callbacks | libpulse | above two streams that do nothing |")
    print("|---|---|---|---|---|---|")
    for name, costs in found.items():
        values = [float(np.median([value(each) for each in costs])) for value in VALUES]
        print(f"| {name} | {' | '.join(f'{100 * value:.1f} %' for value in [*values, values[0] - floor])} |")


VALUES: list[Callable[[Cost], float]] = [
    lambda cost: cost.whole,
    lambda cost: cost.loop,
    lambda cost: cost.callbacks,
    lambda cost: cost.server,
]


def main() -> None:
    """Measure on a sound server of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = SoundServer(Path(folder))
        os.environ.update({name: value for name, value in server.environment.items() if name != "HOME"})
        server.start()
        try:
            anyio.run(compare, arguments.seconds, arguments.runs)
        finally:
            server.kill()


if __name__ == "__main__":
    main()
