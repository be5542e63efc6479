"""From mouth to ear: how long after a spoken question the answer is heard, and where the time goes.

    python benchmarks/microphone_latency.py stages --runs 7
    python benchmarks/microphone_latency.py against --original PYTHON --runs 5

Both start a PulseAudio with a room of one clock, so that a time between a sound and another is a count of samples.
``stages`` holds conversations with the built-in model in this process, and compares with the same question from a file.
``against`` has `duplex talk --server` and the original's own client call the same `duplex serve`; PYTHON is an
interpreter with the original's package `moshi` (torch is not needed), sounddevice, sphn and aiohttp.
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import attrs
import numpy as np

import duplex
from duplex.transports.microphone.portaudio import PortAudio, PortAudioLine
from duplex.transports.microphone.streams import CaptureBuffer, PlaybackBuffer
from microphone_room import RATE, OneClock, Recording, Samples, first_sound, last_sound, place

FRAME, MODEL_RATE = 1920, 24000
FRAME_SECONDS = FRAME / MODEL_RATE
BEFORE, AFTER = 3.0, 5.0
"""Seconds of silence before the question, so that clocks settle, and after it, for the answer."""
ORIGINAL = """
import sys, types, importlib.util
package = types.ModuleType("moshi")  # without its __init__, which imports torch
package.__path__ = list(importlib.util.find_spec("moshi").submodule_search_locations)
sys.modules["moshi"] = package
from moshi.client import main
main()
"""
STAGES = {
    "frame": "a frame of 80 ms is spoken",
    "capture": "its last sample, to the callback",
    "line": "callback to the end of the canceller",
    "model": "line to model, step, and back to the transport",
    "buffer": "playback buffer, to the callback",
    "server": "callback to the loudspeaker",
}


class Probe:
    """A microphone's transport that notes when samples came, and when frames went."""

    def __init__(self) -> None:
        self.system = TimedSystem()
        self.inner = duplex.MicrophoneTransport(system=self.system)
        self.received: list[tuple[int, float]] = []
        self.heard: list[Samples] = []
        self.sent: list[tuple[int, float]] = []
        """Of each frame, where it begins in the playback ring, and when it was sent."""
        self.agent: list[Samples] = []

    @property
    def realtime(self) -> bool:
        """True."""
        return True

    async def start(self, sample_rate: int) -> None:
        """Open the devices."""
        await self.inner.start(sample_rate)

    async def receive(self) -> Samples:
        """Return what was heard."""
        pcm = await self.inner.receive()
        count = self.received[-1][0] if self.received else 0
        self.received.append((count + pcm.size, time.monotonic()))
        self.heard.append(pcm)
        return pcm

    async def send(self, pcm: Samples) -> None:
        """Play a frame."""
        now = time.monotonic()
        await self.inner.send(pcm)
        jitter = self.inner._line.jitter
        self.sent.append((jitter.ring.written - round(pcm.size * RATE / MODEL_RATE), now))
        self.agent.append(pcm)

    async def finish(self) -> None:
        """Wait until everything was heard."""
        await self.inner.finish()

    async def aclose(self) -> None:
        """Release the devices."""
        await self.inner.aclose()


class TimedSystem(PortAudio):
    """PortAudio, with the times at which callbacks were called."""

    def __init__(self) -> None:
        super().__init__()
        self.captured: list[tuple[int, float, Samples]] = []
        """Samples so far, when, and the block."""
        self.played: list[tuple[int, float]] = []
        """Samples taken before a callback, and when."""

    def open_capture(self, device: duplex.AudioDevice) -> tuple[CaptureBuffer, PortAudioLine]:
        """Open a microphone."""
        buffer, line = super().open_capture(device)
        take = buffer.callback

        def callback(block: Samples, when: float) -> None:
            count = self.captured[-1][0] if self.captured else 0
            self.captured.append((count + len(block), time.monotonic(), block[:, 0].copy()))
            take(block, when)

        buffer.callback = callback
        return buffer, line

    def open_playback(self, device: duplex.AudioDevice) -> tuple[PlaybackBuffer, PortAudioLine]:
        """Open a loudspeaker."""
        buffer, line = super().open_playback(device)
        fill = buffer.callback

        def callback(block: Samples, when: float) -> None:
            self.played.append((buffer.ring.taken, time.monotonic()))
            fill(block, when)

        buffer.callback = callback
        return buffer, line


@attrs.frozen
class Outcome:
    """Seconds from the question's last sample to the answer's first, and of that what the transport adds."""

    total: float
    reply: float
    """What the model itself takes, on the frames' time line."""
    stages: dict[str, float]
    lag: float
    torn: float
    """Seconds of silence that were put into the answer because a player had nothing to play."""


async def converse(model: duplex.Model, probe: Probe, seed: int) -> float:
    """Hold a conversation for ever; return the seconds that were lost."""
    lost = 0.0
    async with duplex.Conversation(model, probe, options=duplex.SessionOptions(seed=seed)) as conversation:
        with anyio.move_on_after(BEFORE + 6.4 + AFTER):
            async for event in conversation:
                lost += event.behind + event.dropped if isinstance(event, duplex.Lag) else 0.0
    return lost


async def one_run(model: duplex.Model, room: OneClock, question: Samples, seed: int) -> Outcome | None:
    """Ask once; None if there was no answer."""
    probe, lost = Probe(), []

    async def talk() -> None:
        lost.append(await converse(model, probe, seed))

    with room.heard() as recording:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(talk)
            await anyio.sleep(BEFORE)
            with room.speaking(room.at_its_rate(question, MODEL_RATE)):
                await anyio.sleep(question.size / MODEL_RATE + AFTER - 1)
    return examine(recording, probe, question, lost[0])


def examine(recording: Recording, probe: Probe, question: Samples, lag: float) -> Outcome | None:
    """Find the question and the answer in what was recorded, and what happened between them."""
    spoken, played = recording.channels
    wide = OneClock.at_its_rate(question, MODEL_RATE)
    heard, agent = np.concatenate(probe.heard), np.concatenate(probe.agent)
    asked = place(wide, spoken)
    asked_end = asked + last_sound(wide)
    answered = first_sound(played, asked_end, RATE)
    # On the frames' time line: where the question was heard, and where the answer begins.
    heard_end = place(question, heard) + last_sound(question)
    began = first_sound(agent, heard_end, MODEL_RATE)
    if answered is None or began is None:
        return None
    piece = OneClock.at_its_rate(agent[began : began + MODEL_RATE // 4], MODEL_RATE)
    near = max(0, answered - RATE // 2)
    answered = near + place(piece, played[near : answered + RATE])
    frame = began // FRAME
    # The last sample of the user's frame that the answer's first frame belongs to, in the room.
    last = asked_end + round(((frame + 1) * FRAME - heard_end) * RATE / MODEL_RATE)
    captured = np.concatenate([block for _, _, block in probe.system.captured])
    shift = place(spoken[asked : asked + wide.size], captured) - asked
    called = next(when for count, when, _ in probe.system.captured if count > last + shift)
    received = next(when for count, when in probe.received if count >= (frame + 1) * FRAME)
    position, sent = probe.sent[frame]
    offset = (began - frame * FRAME) / MODEL_RATE
    taken, taken_at = [each for each in probe.system.played if each[0] <= position][-1]
    stages = {
        "frame": FRAME_SECONDS,
        "capture": called - recording.time(last),
        "line": received - called,
        "model": sent - received,
        "buffer": taken_at + (position - taken) / RATE - sent,
        "server": recording.time(answered) - offset - taken_at - (position - taken) / RATE,
    }
    holes = torn(played[answered : answered + 2 * RATE])
    return Outcome((answered - asked_end) / RATE, (began - heard_end) / MODEL_RATE, stages, lag, holes)


async def from_file(model: duplex.Model, question: Samples, seed: int) -> float | None:
    """Return how long the answer takes on the time line of a recording."""
    pcm = np.concatenate([np.zeros(round(BEFORE * MODEL_RATE)), question, np.zeros(round(AFTER * MODEL_RATE))])
    async with duplex.Conversation(model, options=duplex.SessionOptions(seed=seed)) as conversation:
        events = conversation.run(pcm.astype(np.float32))
        agent = [event.pcm async for event in events if isinstance(event, duplex.AgentAudio)]
    end = round(BEFORE * MODEL_RATE) + last_sound(question)
    began = first_sound(np.concatenate(agent), end, MODEL_RATE)
    return None if began is None else (began - end) / MODEL_RATE


async def stages(room: OneClock, question: Samples, runs: int) -> None:
    """Print the times of conversations in this process."""
    with await duplex.load_async("tiny") as model:
        files = [each for seed in range(runs) if (each := await from_file(model, question, seed)) is not None]
        found = []
        for seed in range(runs):
            outcome = await one_run(model, room, question, seed)
            print(f"run {seed}: {outcome}", file=sys.stderr, flush=True)
            found += [] if outcome is None else [outcome]
    print("| from the question's last sample | median | worst |\n|---|---|---|")
    file = float(np.median(files))
    row("to the answer's first, by the microphone", [each.total for each in found])
    row("the same from a file, on its time line", files)
    row("above the file's median", [each.total - file for each in found])
    row("above what the model took in the same call", [each.total - each.reply for each in found])
    print("| **of which, in the answer's first frame** | | |")
    for name, what in STAGES.items():
        row(what, [each.stages[name] for each in found])
    row("zeros in the answer's first 2 s", [each.torn for each in found])


def row(name: str, seconds: Sequence[float]) -> None:
    """Print median and worst."""
    print(f"| {name} | {1000 * np.median(seconds):.0f} ms | {1000 * max(seconds):.0f} ms |")


@contextmanager
def running_server() -> Generator[str]:
    """Serve the built-in model; give its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "duplex", "serve", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def ask(command: Sequence[str], room: OneClock, question: Samples) -> tuple[float | None, float]:
    """Ask a client's program once; return seconds to the answer's first sample, and how many had no sound in it."""
    environment = {**os.environ, **room.environment}
    with room.heard() as recording:
        client = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            time.sleep(BEFORE + 3)  # the program starts, too
            with room.speaking(room.at_its_rate(question, MODEL_RATE)):
                time.sleep(question.size / MODEL_RATE + AFTER)
        finally:
            client.terminate()
            client.wait()
    spoken, played = recording.channels
    wide = room.at_its_rate(question, MODEL_RATE)
    end = place(wide, spoken) + last_sound(wide)
    answered = first_sound(played, end, RATE)
    return (None, 0.0) if answered is None else ((answered - end) / RATE, torn(played[answered : answered + 2 * RATE]))


def torn(pcm: Samples) -> float:
    """Return seconds of exact zeros between sounds: what a player that had nothing to play has put there."""
    zero = np.concatenate([[0], (pcm == 0).astype(int), [0]])
    begins, ends = np.flatnonzero(np.diff(zero) == 1), np.flatnonzero(np.diff(zero) == -1)
    return float(sum(size for size in ends - begins if size >= RATE // 200)) / RATE


def against(room: OneClock, question: Samples, original: str, runs: int) -> None:
    """Print the times of this project's client and of the original's, by turns."""
    with running_server() as url:
        port = url.rsplit(":", 1)[1]
        commands = {
            "duplex talk --server": [sys.executable, "-m", "duplex", "talk", "--server", url],
            "the original's client": [original, "-c", ORIGINAL, "--port", port, "--host", "127.0.0.1"],
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for number in range(runs):
            for name, command in commands.items():
                seconds, silent = ask(command, room, question)
                print(f"run {number}, {name}: {seconds}, torn {silent:.3f}", file=sys.stderr, flush=True)
                found[name] += [] if seconds is None else [(seconds, silent)]
    print("| client | answers | median | worst | zeros in the answer's first 2 s, median |\n|---|---|---|---|---|")
    for name, each in found.items():
        seconds, silent = zip(*each, strict=True) if each else ((float("nan"),), (float("nan"),))
        print(
            f"| {name} | {len(each)} of {runs} | {1000 * np.median(seconds):.0f} ms | {1000 * max(seconds):.0f} ms | "
            f"{1000 * np.median(silent):.0f} ms |"
        )


async def read(path: str) -> Samples:
    """Return a recording at the model's rate."""
    transport, pieces = duplex.FileTransport(path), []
    await transport.start(MODEL_RATE)
    try:
        while True:
            pieces.append(await transport.receive())
    except anyio.EndOfStream:
        return np.concatenate(pieces)
    finally:
        await transport.aclose()


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["stages", "against"])
    parser.add_argument("--question", default=str(Path(__file__).parents[1] / "examples" / "question.wav"))
    parser.add_argument("--original", metavar="PYTHON", help="for `against`")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    question = anyio.run(read, arguments.question)
    with tempfile.TemporaryDirectory() as folder:
        room = OneClock(Path(folder))
        os.environ.update({name: value for name, value in room.environment.items() if name != "HOME"})
        room.start()
        try:
            if arguments.command == "stages":
                anyio.run(partial(stages, room, question, arguments.runs))
            else:
                against(room, question, arguments.original, arguments.runs)
        finally:
            room.kill()


if __name__ == "__main__":
    main()
