"""What the microphone's echo canceller does in simulated rooms.

    python benchmarks/microphone.py rooms --user examples/question.wav --agent AGENT.wav

It puts one recording into a simulated room as the agent's voice and another as the user's, through fake devices
of known clocks and the whole line, and prints two tables: while only the agent speaks, the echo's reduction and the
false starts of the detector of speech; while both speak, what is left of the user's voice (PESQ, STOI); and AECMOS for
both. The packages for these are optional: pesq, pystoi, speechmos and librosa. What the transport costs, and how long
it takes, is measured by ``microphone_cpu.py`` and ``microphone_latency.py``.
"""

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import anyio
import attrs
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "transports"))
from microphone_support import FakeSound, devices

from duplex.transports.microphone.echo import WebRtcProcessor
from duplex.transports.microphone.line import Line
from microphone_quality import aecmos, intelligibility, missing, quality, speech_starts
from microphone_room import read

Samples = NDArray[np.floating[Any]]
RATE, FRAME = 24000, 1920
SECONDS = 24.0
ALONE = 14.0
"""Seconds in which only the agent speaks; from then on the user does, too."""


@attrs.frozen
class Room:
    """A loudspeaker and a microphone: how loud the echo is, how long it rings, and what else is wrong."""

    name: str
    echo_db: float
    reverberation: float
    delay: float = 0.004
    drift_ppm: float = 0.0
    distortion: float = 0.0
    jitter: float = 0.0

    def response(self) -> Samples:
        """Return the impulse response: a direct path, and a tail that decays."""
        size = round(max(self.reverberation, 0.01) * RATE)
        noise = np.random.default_rng(7).normal(0, 1, size) * 10 ** (-3 * np.arange(size) / size)
        noise[: round(0.002 * RATE)] = 0
        taps = 0.3 * noise / max(np.linalg.norm(noise), 1e-9)
        taps[0] = 1.0
        return 10 ** (self.echo_db / 20) * np.concatenate([np.zeros(round(self.delay * RATE)), taps])


ROOMS = [
    Room("laptop on a desk", -12, 0.15),
    Room("laptop, 0 dB echo", 0, 0.15),
    Room("living room", -6, 0.4, delay=0.008),
    Room("bare office", -6, 0.8, delay=0.012),
    Room("clocks 200 ppm apart, times off by 2 ms", -6, 0.3, drift_ppm=200, jitter=0.002),
    Room("small distorting loudspeaker", -6, 0.2, distortion=2.0),
]


def repeated(pcm: Samples, seconds: float) -> Samples:
    """Return a recording again and again, at -23 dBFS while it sounds."""
    loud = pcm[np.abs(pcm) > 0.01]
    level = np.sqrt(np.mean(loud**2))
    return np.resize(pcm * (0.07 / level), round(seconds * RATE))


class Scene(FakeSound):
    """The user's voice from ``ALONE`` on, at known times, and the echo of what the loudspeaker has played."""

    def __init__(self, room: Room, user: Samples) -> None:
        super().__init__(devices(), drift_ppm=room.drift_ppm, jitter=room.jitter)
        self.room, self.user, self.response = room, user, room.response()
        self.began = self.time
        self.echo = np.zeros(round((SECONDS + 5) * RATE))
        self.far = np.zeros_like(self.echo)
        self.sound = self.hear
        self.taken = 0

    def hear(self, times: Samples) -> Samples:
        """Return what the microphone hears at times."""
        self.spread()
        at = (times - self.began) * RATE
        return self.echo_at(at) + self.voice(at)

    def echo_at(self, at: Samples) -> Samples:
        """Return the echo at samples since the beginning."""
        return between(at, self.echo)

    def played_at(self, at: Samples) -> Samples:
        """Return what the loudspeaker plays at samples since the beginning."""
        return between(at, self.far)

    def voice(self, at: Samples) -> Samples:
        """Return the user's voice at samples since the beginning."""
        return np.interp(at - ALONE * RATE, np.arange(self.user.size), self.user, left=0, right=0)

    def spread(self) -> None:
        """Add to the echo what the loudspeaker has played since."""
        for begin, played in self.heard[self.taken :]:
            bend = self.room.distortion
            block = np.tanh(bend * played[::2]) / bend if bend else played[::2]
            first = (begin - self.began) * RATE
            echo = np.convolve(block, self.response)
            start = math.floor(first)
            part = first - start
            self.far[start : start + played[::2].size] = played[::2]
            self.echo[start : start + echo.size] += (1 - part) * echo
            self.echo[start + 1 : start + 1 + echo.size] += part * echo
        self.taken = len(self.heard)


def between(at: Samples, sound: Samples) -> Samples:
    """Return a sound at places between its samples; only where it is asked for, as it is long."""
    first = max(0, math.floor(at[0]))
    part = sound[first : math.ceil(at[-1]) + 2]
    return np.interp(at, first + np.arange(part.size), part)


def run(room: Room, user: Samples, agent: Samples, **processing: bool) -> tuple[Samples, Samples, Scene]:
    """Return what comes out of the line, with the times of its samples, and the scene."""
    scene = Scene(room, user)
    line = Line(RATE, WebRtcProcessor(RATE, **processing))
    capture, _ = scene.open_capture(scene.present[0])
    playback, _ = scene.open_playback(scene.present[1])
    line.connect(capture, playback)
    out, first, frames = [], None, 0
    while scene.time - scene.began < SECONDS:
        scene.advance(0.01)
        while scene.time - scene.began >= frames * FRAME / RATE:
            line.jitter.push(agent[frames * FRAME : (frames + 1) * FRAME].astype(np.float32))
            frames += 1
            pcm = line.advance(scene.time)  # whole frames, as in a conversation
            if first is None and pcm.size:
                first = line.position - pcm.size
            out.append(pcm)
    pcm = np.concatenate(out)
    return (first + np.arange(pcm.size)) / RATE, pcm, scene


@attrs.frozen
class Outcome:
    """What the line makes of a room: first without noise suppression and gain control, then with everything on."""

    early: float
    """dB by which the echo is lowered, from 1 to 3 s."""
    late: float
    """The same from 8 s to the end of the agent's turn."""
    pesq: tuple[float, float]
    """Of the user's voice while both speak: with the echo left in, and cancelled."""
    stoi: tuple[float, float]
    starts: tuple[list[float], list[float]]
    """When speech falsely starts while only the agent speaks: with the echo left in, and with everything on."""
    left: float
    """dBFS that are left of the echo with everything on."""
    alone: float
    """AECMOS for the echo while only the agent speaks, with everything on."""
    both: tuple[float, float]
    """AECMOS for the echo and for other degradations while both speak, with everything on."""


def measure(room: Room, user: Samples, agent: Samples) -> Outcome:
    """Put both voices into a room."""
    times, pcm, scene = run(room, user, agent, noise_suppression=False, gain_control=False)
    at = (times - scene.began) * RATE
    echo, voice = scene.echo_at(at), scene.voice(at)
    both = at >= ALONE * RATE

    def reduction(begin: float, end: float) -> float:
        span = (at >= begin * RATE) & (at < end * RATE)
        return 10 * np.log10(np.sum(echo[span] ** 2) / max(np.sum(pcm[span] ** 2), 1e-12))

    full_times, full, full_scene = run(room, user, agent)
    full_at = (full_times - full_scene.began) * RATE
    far, near = full_scene.played_at(full_at), full_scene.echo_at(full_at) + full_scene.voice(full_at)
    settled, together = (full_at >= 4 * RATE) & (full_at < ALONE * RATE), full_at >= ALONE * RATE
    pairs = [(voice[both], (echo + voice)[both]), (voice[both], pcm[both])]
    return Outcome(
        early=reduction(1, 3),
        late=reduction(8, ALONE),
        pesq=(quality(*pairs[0], RATE), quality(*pairs[1], RATE)),
        stoi=(intelligibility(*pairs[0], RATE), intelligibility(*pairs[1], RATE)),
        starts=(speech_starts(near[full_at < ALONE * RATE], RATE), speech_starts(full[full_at < ALONE * RATE], RATE)),
        left=20 * np.log10(np.sqrt(np.mean(full[(full_at >= 8 * RATE) & (full_at < ALONE * RATE)] ** 2)) + 1e-6),
        alone=aecmos(far[settled], near[settled], full[settled], RATE, "st")[0],
        both=aecmos(far[together], near[together], full[together], RATE, "dt"),
    )


async def rooms(user_path: str, agent_path: str) -> None:
    """Print a table of the echo and one of the voice and what is heard, a line for each room."""
    if lacking := missing():
        print(f"left out, as nan: pip install {' '.join(lacking)}", file=sys.stderr)
    agent = repeated(await read(agent_path, RATE), SECONDS + 1)
    user = repeated(await read(user_path, RATE), SECONDS - ALONE)
    print("| room | echo | ERLE, 1 to 3 s | 8 to 14 s | left | false starts, echo left in | cancelled |")
    print("|---|---|---|---|---|---|---|")
    found = []
    for room in ROOMS:
        found.append(each := measure(room, user, agent))
        print(
            f"| {room.name} | {room.echo_db:g} dB | {each.early:.1f} dB | {each.late:.1f} dB | {each.left:.0f} dBFS | "
            f"{len(each.starts[0])} | {len(each.starts[1])} ({', '.join(f'{at:.1f} s' for at in each.starts[1])}) |",
            flush=True,
        )
    print("\n| room | PESQ, echo left in | cancelled | STOI, left in | cancelled | AECMOS alone | both: echo | other |")
    print("|---|---|---|---|---|---|---|---|")
    for room, each in zip(ROOMS, found, strict=True):
        values = [*each.pesq, *each.stoi, each.alone, *each.both]
        print(f"| {room.name} | {' | '.join(f'{value:.2f}' for value in values)} |")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["rooms"])
    parser.add_argument("--user", default="examples/question.wav")
    parser.add_argument("--agent", default="examples/conversation.wav")
    arguments = parser.parse_args()
    anyio.run(rooms, arguments.user, arguments.agent)


if __name__ == "__main__":
    main()
