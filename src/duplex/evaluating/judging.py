"""The figures of Full-Duplex-Bench that need no judge, as its authors define them.

- Take-over: 0 if the agent says nothing, or at most 3 words in under 1 s; else 1.
- Latency: from the annotated start of the change of turns, or the end of an interruption, to the first word; below 0
  it counts as 0. Only samples with a take-over have one.
- Backchannels: segments of speech (Silero) of 3 s or less. A longer one, more than 3 words in one, or a last one of 1 s
  or more or with more than 2 words is a take-over. Their frequency is per second. The distance (Jensen-Shannon, base e)
  is between their distribution over bins of 0.2 s and the human one, stretched to the same length; without any it is 1.
- Overlaps of v1.5: user's speech is joined over gaps of 0.6 s, the agent's of 0.5 s. Stopping takes as long as an
  overlap lasts; a response, from the end of the user's speech to the agent's next start.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from duplex.conversation.transcript import Chunk

__all__ = ["BIN", "backchannels", "distance", "joined", "overlaps", "responses", "took_over"]

Spans = Sequence[tuple[float, float]]
SHORT, FEW, LONG, FEWER = 1.0, 3, 3.0, 2
BIN = 0.2
LEAST = 1e-10
USER_GAP, AGENT_GAP = 0.6, 0.5


def took_over(words: Sequence[Chunk]) -> bool:
    """Tell whether the agent took the turn."""
    if not words:
        return False
    return words[-1]["timestamp"][1] - words[0]["timestamp"][0] >= SHORT or len(words) > FEW


def backchannels(speech: Spans, words: Sequence[Chunk]) -> tuple[bool, list[tuple[float, float]]]:
    """Return whether the agent took the turn, and the segments of speech that are no turn."""
    taken = False
    found: list[tuple[float, float]] = []
    for start, end in speech:
        if end - start > LONG:
            return True, found
        said = sum(chunk["timestamp"][0] <= end and chunk["timestamp"][1] > start for chunk in words)
        taken = said > FEWER or end - start >= SHORT
        found.append((start, end))
    return taken, found


def distance(found: Spans, seconds: float, human: Sequence[float]) -> float:
    """Return how far backchannels lie from the human distribution: 0 the same, 1 if there are none."""
    if not found:
        return 1.0
    counts: NDArray[np.float64] = np.full(int(seconds / BIN) + 1, LEAST)
    for start, end in found:
        counts[int(start / BIN) : int(end / BIN) + 1] += 1
    expected = np.interp(np.linspace(0, 1, len(counts)), np.linspace(0, 1, len(human)), human)
    first, second = counts / counts.sum(), expected / expected.sum()
    middle = (first + second) / 2
    return float(np.sqrt(max((_divergence(first, middle) + _divergence(second, middle)) / 2, 0.0)))


def _divergence(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    there = first > 0
    return float((first[there] * np.log(first[there] / second[there])).sum())


def joined(spans: Spans, gap: float) -> list[tuple[float, float]]:
    """Return spans, in order, those with no more than ``gap`` seconds between them as one."""
    made: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if made and start - made[-1][1] <= gap:
            made[-1] = made[-1][0], max(made[-1][1], end)
        else:
            made.append((start, end))
    return made


def overlaps(user: Spans, agent: Spans) -> list[float]:
    """Return how long each overlap lasts, in seconds."""
    users, agents = joined(user, USER_GAP), joined(agent, AGENT_GAP)
    both = [(max(a, c), min(b, d)) for a, b in users for c, d in agents]
    return [end - start for start, end in both if end > start]


def responses(user: Spans, agent: Spans) -> list[float]:
    """Return how long after the user's speech the agent next begins, for each beginning, in seconds."""
    ends = [end for _, end in joined(user, USER_GAP)]
    starts = [start for start, _ in joined(agent, AGENT_GAP)]
    nearest: dict[float, float] = {}
    for end in ends:  # in rising order: the last one before a start counts
        following = next((start for start in starts if start > end), None)
        if following is not None:
            nearest[following] = following - end
    return list(nearest.values())
