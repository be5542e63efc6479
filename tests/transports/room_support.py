"""A conversation in the sound server's room: a recording speaks, the loudspeaker echoes, events tell what was heard."""

import contextlib
import threading
import time
import wave

import attrs
import numpy as np
import soxr
from sound_server_support import RATE

import duplex
from duplex import MicrophoneTransport

SETTLING = 3.0
LATE = 0.8
"""Seconds by which the detector may tell later than the user began, and the server deliver later than it was played."""
STALL = 0.03
"""Seconds by which a thread that is preferred may wake too late."""


@attrs.frozen
class Heard:
    """What came of a conversation, in seconds of it. ``spoken`` are the spans in which the user really spoke.

    ``stutters`` are the times of what a busy machine has done: it stood still, frames were lost, the agent's audio was
    too late, and streams were begun anew. What comes shortly after one is not judged: the canceller has to find the
    room again.
    """

    spoken: list
    starts: list
    agent_spans: list
    text: str
    echo_reduction: float | None
    stutters: list

    def is_disturbed(self, at):
        return any(stutter - LATE <= at <= stutter + SETTLING for stutter in self.stutters)

    def judged_seconds(self):
        """Return for how long the agent has spoken undisturbed."""
        tenths = [np.arange(begin, min(end, begin + 30.0), 0.1) for begin, end in self.agent_spans]
        return sum(0.1 for span in tenths for at in span if not self.is_disturbed(at))

    def is_agents(self, at):
        return any(begin - 0.2 <= at <= end + 0.5 for begin, end in self.agent_spans)

    def false_starts(self):
        """Return when the user was heard to begin, while the agent spoke, and the user had not."""
        real = [any(begin - 0.3 <= at <= end + LATE for begin, end in self.spoken) for at in self.starts]
        return [at for at, is_real in zip(self.starts, real, strict=True) if not is_real and self.is_agents(at)]

    def judged_false_starts(self):
        """Return those that the machine has not disturbed."""
        return [at for at in self.false_starts() if not self.is_disturbed(at)]

    def barge_ins(self):
        """Return whether the user was heard to begin, each time that the user cut in.

        The agent falls silent at once, so its span may end just before the detector tells.
        """
        cut_in = [
            (begin, end)
            for begin, end in self.spoken
            if any(start + 0.3 < begin < stop + 0.5 for start, stop in self.agent_spans)
            and not self.is_disturbed(begin)
        ]
        return [any(begin - 0.3 <= at <= end + LATE for at in self.starts) for begin, end in cut_in]


@contextlib.contextmanager
def stalls():
    """Keep a list of how long the machine stood still, each time that it did, during a block.

    A sound server that stood still may fill its own buffers with silence and tell nobody.
    """
    found, ended = [], threading.Event()

    def watch():
        before = time.monotonic()
        while not ended.wait(0.01):
            now = time.monotonic()
            if now - before > 0.01 + STALL:
                found.append(now - before)
            before = now

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        ended.set()
        watcher.join()


def stutters(transport):
    """Return how often an open transport's audio came too late, was lost, or lost its place in time."""
    line, stats = transport._line, transport.stats
    clocks = [clock.anchors for clock in (line.near_clock, line.far_clock) if clock is not None]
    return stats.underruns + stats.overruns + sum(clocks)


def spans(pcm, rate):
    """Return where a clean recording sounds: pauses under half a second belong to the speech around them."""
    block = rate // 50
    level = np.sqrt(np.mean(pcm[: pcm.size // block * block].reshape(-1, block) ** 2, axis=1))
    found = []
    for at in np.flatnonzero(level > 0.005) / 50:
        if found and at - found[-1][1] < 0.5:
            found[-1][1] = at
        else:
            found.append([at, at])
    return [(begin, end) for begin, end in found if end - begin > 0.1]


def at_its_rate(recording):
    """Return a recording at the sound server's rate."""
    with wave.open(str(recording)) as file:
        rate, pcm = file.getframerate(), np.frombuffer(file.readframes(file.getnframes()), "<i2") / np.float32(32768)
    return soxr.resample(pcm, rate, RATE)


async def converse(server, model, recording, how, *, noise_suppression=True, gain_control=True):
    """Hold a conversation: the recording is played into the room after the first second."""
    speech = np.concatenate([np.zeros(RATE, np.float32), at_its_rate(recording)])
    transport = MicrophoneTransport(
        echo_cancellation=how, noise_suppression=noise_suppression, gain_control=gain_control
    )
    starts, agent, text, began, stuttered, count = [], [], [], None, [], 0
    options = duplex.SessionOptions(seed=1)
    with stalls() as stood_still:
        async with duplex.Conversation(model, transport, options=options) as conversation:
            player = None
            try:
                async for event in conversation:
                    at = getattr(event, "at", 0.0)
                    if isinstance(event, duplex.UserSpeechStarted):
                        starts.append(at)
                    elif isinstance(event, duplex.AgentSpeechStarted):
                        agent.append([at, np.inf])
                    elif isinstance(event, duplex.AgentSpeechStopped):
                        agent[-1][1] = at
                    elif isinstance(event, duplex.AgentText):
                        text.append(event.text)
                    now = stutters(transport) + len(stood_still)
                    stuttered += [at] if isinstance(event, duplex.Lag) or now != count else []
                    count = now
                    if player is None and at > 0.5:
                        player, began = server.speaking(speech), at
                        player.__enter__()
                    if began is not None and at > began + speech.size / RATE + 2:
                        transport.end()
            finally:
                if player is not None:
                    player.__exit__(None, None, None)
    spoken = [(begin + began, end + began) for begin, end in spans(speech, RATE)]
    return Heard(spoken, starts, agent, "".join(text), transport.stats.echo_reduction, stuttered)
