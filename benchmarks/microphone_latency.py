"""From mouth to ear: how long after a spoken question the answer is heard, and where the time goes.

    python benchmarks/microphone_latency.py stages --runs 7

It starts a PulseAudio with a room of one clock, so that a time between a sound and another is a count of samples,
holds conversations with the built-in model in this process, and compares with the same question from a file, on its
time line: there an answer may begin with the very sample that it follows. With a microphone, a frame has to be spoken
first.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import anyio
import anyio.to_thread
import attrs
import numpy as np

import duplex
from duplex.transports.microphone.portaudio import PortAudio, PortAudioLine
from duplex.transports.microphone.streams import CaptureBuffer, PlaybackBuffer
from microphone_room import RATE, OneClock, Recording, Samples, first_sound, last_sound, place, read, torn

FRAME, MODEL_RATE = 1920, 24000
FRAME_SECONDS = FRAME / MODEL_RATE
BEFORE, AFTER = 3.0, 5.0
"""Seconds of silence before the question, so that clocks settle, and after it, for the answer."""
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
    row(
        "the same, without the frame that has to be spoken", [each.total - each.reply - FRAME_SECONDS for each in found]
    )
    print("| **of which, in the answer's first frame** | | |")
    for name, what in STAGES.items():
        row(what, [each.stages[name] for each in found])
    row("zeros in the answer's first 2 s", [each.torn for each in found])


def row(name: str, seconds: Sequence[float]) -> None:
    """Print median and worst."""
    print(f"| {name} | {1000 * np.median(seconds):.0f} ms | {1000 * max(seconds):.0f} ms |")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["stages"])
    parser.add_argument("--question", default=str(Path(__file__).parents[1] / "examples" / "question.wav"))
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    question = anyio.run(read, arguments.question, MODEL_RATE)
    with tempfile.TemporaryDirectory() as folder:
        room = OneClock(Path(folder))
        os.environ.update({name: value for name, value in room.environment.items() if name != "HOME"})
        room.start()
        try:
            anyio.run(stages, room, question, arguments.runs)
        finally:
            room.kill()


if __name__ == "__main__":
    main()
