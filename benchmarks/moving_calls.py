"""What callers notice when a server stops, dies, or their line breaks: two servers, real processes, real sockets.

    python benchmarks/moving_calls.py                            # two calls of tiny on each, and six of no weights
    python benchmarks/moving_calls.py --model tiny --calls 2

For each caller: the longest time without sound, what it was told to have lost, and whether its conversation went on. Of
a caller whose network was away for ten seconds also whether the words are those of a run in memory, on the frames that
the model heard.
"""

import argparse
import json
import os
import signal
import statistics
import time
import wave
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import anyio
import attrs
import numpy as np

import duplex
from moving_servers import FAKE, HEARD, Line, Pair, loaded, servers

FRAME = 1920
RATE = 24000
QUESTION = Path(__file__).parents[1] / "examples" / "question.wav"
ANSWER_FRAMES = 40
WARM_FRAMES = 20
"""Heard by each caller before anything is measured: a model's first steps are slow."""
AWAY_SECONDS = 10.0
AFTER_SECONDS = 10.0
RUNS = (("tiny", 2), (FAKE, 6))
STOPPED, KILLED, CUT, VANISHED = (
    "one server stopped (SIGTERM)",
    "one server killed",
    "a caller's network cut for 10 s",
    "the same, and nobody told",
)
HEAD = (
    "| model, calls on each server | | went on | gap heard, median and largest | told as lost | words "
    "| others' largest gap | load |"
)


def spoken() -> np.ndarray:
    """Return a question and the time for an answer, float32 ``[frames, 1920]``."""
    with wave.open(str(QUESTION)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768
    return np.pad(samples, (0, ANSWER_FRAMES * FRAME - len(samples) % FRAME)).reshape(-1, FRAME)


class Microphone:
    """A live transport: a question again and again at the pace of a clock, until ``over``; notes when sound comes."""

    realtime = True

    def __init__(self, seed: int) -> None:
        self.over = False
        self._spoken, self._at, self._due, self.heard = spoken(), 3 * seed, 0.0, []

    async def start(self, _: int) -> None:
        """Begin."""
        self._due = anyio.current_time()

    async def receive(self) -> np.ndarray:
        """Return a frame when it is due."""
        if self.over:
            raise anyio.EndOfStream
        self._due += FRAME / RATE
        await anyio.sleep_until(self._due)
        self._at += 1
        return self._spoken[self._at % len(self._spoken)]

    async def send(self, _: np.ndarray) -> None:
        """Note that a frame has come."""
        self.heard.append(anyio.current_time())

    async def finish(self) -> None:
        """Do nothing."""

    async def aclose(self) -> None:
        """Do nothing."""


class Caller:
    """A call, from now on, and what it notices."""

    def __init__(self, port: int, number: int) -> None:
        self.microphone, self.events, self.error = Microphone(number), [], None
        self.options, self.over = duplex.SessionOptions(seed=number), anyio.Event()
        url = f"http://127.0.0.1:{port}"
        self.call = duplex.connect(url, self.microphone, options=self.options, audio_events=False)

    async def talk(self) -> None:
        """Hold the conversation."""
        try:
            async with self.call as conversation:
                async for event in conversation:
                    self.events.append(event)
        except duplex.DuplexError as error:
            self.error = error
        finally:
            self.over.set()

    def gap(self) -> float:
        """Return the longest time without sound beyond a frame's, after the first seconds."""
        heard = self.microphone.heard[WARM_FRAMES:]
        return max((later - earlier for earlier, later in pairwise(heard)), default=0.0) - FRAME / RATE

    def lost(self) -> float:
        """Return the seconds that were told as lost."""
        return sum(event.dropped for event in self.events if isinstance(event, duplex.Lag) and event.side == "user")

    def whole(self, since: float) -> bool:
        """Tell whether one session goes on after ``since``."""
        started = sum(isinstance(event, duplex.SessionStarted) for event in self.events)
        return self.error is None and started == 1 and self.microphone.heard[-1] > since

    def words(self) -> list[str]:
        """Return what the agent said."""
        return [event.text for event in self.events if isinstance(event, duplex.AgentText)]

    @property
    def session_id(self) -> str:
        """Of its session."""
        return next(event.session_id for event in self.events if isinstance(event, duplex.SessionStarted))


@attrs.frozen
class Measured:
    """What callers noticed."""

    hit: Sequence[Caller]
    others: Sequence[Caller]
    at: float
    heard: np.ndarray | None
    """By the model of the one whose network was away, float32 ``[samples]``."""

    def row(self, about: str, what: str, words: str) -> str:
        """Return a row of the table."""
        gaps = [each.gap() for each in self.hit]
        whole = sum(each.whole(self.at + AFTER_SECONDS / 2) for each in self.hit)
        return (
            f"| {about} | {what} | {whole} of {len(self.hit)} | {statistics.median(gaps):.2f} s, {max(gaps):.2f} s "
            f"| {max(each.lost() for each in self.hit):.1f} s | {words} "
            f"| {max(each.gap() for each in self.others):.2f} s | {os.getloadavg()[0]:.1f} |"
        )


async def measure(what: str, pair: Pair, calls: int, seconds: float) -> Measured:
    """Hold calls on both servers, and have something happen to the first."""
    lines = [Line(pair.ports[0]) for _ in range(calls)]
    mine = [Caller(line.port, number) for number, line in enumerate(lines)]
    others = [Caller(pair.ports[1], calls + number) for number in range(calls)]
    async with anyio.create_task_group() as tasks:
        for each in (*mine, *others):
            tasks.start_soon(each.talk)
        with anyio.fail_after(90):
            while min(len(each.microphone.heard) for each in (*mine, *others)) < WARM_FRAMES:  # noqa: ASYNC110 -- enough
                await anyio.sleep(0.1)
        await anyio.sleep(seconds)
        at = anyio.current_time()
        await happen(what, pair, lines)
        await anyio.sleep(AFTER_SECONDS)
        heard = await hang_up(mine[0], pair.recordings) if what in (CUT, VANISHED) else None
        tasks.cancel_scope.cancel()
    return Measured(mine[:1] if what in (CUT, VANISHED) else mine, others, at, heard)


async def happen(what: str, pair: Pair, lines: Sequence[Line]) -> None:
    """Have it happen."""
    if what == STOPPED:
        pair.first.process.send_signal(signal.SIGTERM)
    elif what == KILLED:
        pair.first.process.kill()
        for line in lines:  # as a balancer does
            line.upstream = pair.ports[1]
    else:
        (lines[0].cut if what == CUT else lines[0].swallow)()
        await anyio.sleep(AWAY_SECONDS)
        lines[0].mend()


async def hang_up(caller: Caller, recordings: Path) -> np.ndarray:
    """End a call as a caller does; return what the model has heard, when that has been written."""
    caller.microphone.over = True
    with anyio.fail_after(30):
        await caller.over.wait()
        while (heard := heard_in(recordings, caller.session_id)) is None:  # noqa: ASYNC110 -- enough
            await anyio.sleep(0.1)
        return heard


def heard_in(recordings: Path, session_id: str) -> np.ndarray | None:
    """Return what the model has heard in a session that has ended."""
    for about in recordings.glob("*/call.json"):
        told = json.loads(about.read_text())
        if told["session"] == session_id and told["ended"]:
            return np.fromfile(about.with_name(HEARD), "<f4")
    return None


async def words_of(model: str, calls: int, caller: Caller, heard: np.ndarray) -> str:
    """Tell how many of a caller's words are those of a run in memory, on what the model heard."""
    with loaded(model, 2 * calls) as made:
        async with duplex.Conversation(made, options=caller.options, audio_events=False) as conversation:
            said = [event.text async for event in conversation.run(heard) if isinstance(event, duplex.AgentText)]
    got = caller.words()
    same = next((at for at, (one, other) in enumerate(zip(got, said, strict=False)) if one != other), len(got))
    return f"all {len(got)} the same" if got == said else f"{same} of {len(got)} the same, then others ({len(said)})"


async def measure_all(model: str, calls: int, seconds: float) -> None:
    """Measure everything with one model, and print it."""
    about = f"`tiny`, {calls}" if model == "tiny" else f"{'without weights' if model == FAKE else model}, {calls}"
    for what in (STOPPED, KILLED, CUT, VANISHED):
        with servers(model, calls) as pair:
            measured = await measure(what, pair, calls, seconds)
        words = "" if measured.heard is None else await words_of(model, calls, measured.hit[0], measured.heard)
        print(measured.row(about, what, words), flush=True)
        for each in (*measured.hit, *measured.others):
            if each.error is not None:
                print(f"{each.error}", flush=True)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", help=f"{FAKE} is the one without weights; both if left out")
    parser.add_argument("--calls", type=int, default=2, help="of the model on each server")
    parser.add_argument("--seconds", type=float, default=3.0, help="before it happens")
    given = parser.parse_args()
    os.environ.setdefault(
        "DUPLEX_PRODUCTS", "fixed"
    )  # what is timed may differ between the servers and the run in memory
    print(time.strftime("%Y-%m-%d %H:%M"), f"{os.cpu_count()} cores", flush=True)
    print(HEAD, "|---|---|---|---|---|---|---|---|", sep="\n", flush=True)
    for model, calls in RUNS if given.model is None else ((given.model, given.calls),):
        anyio.run(measure_all, model, calls, given.seconds)


if __name__ == "__main__":
    main()
