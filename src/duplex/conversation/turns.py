"""Who speaks when: state machines from probabilities and levels to starts and stops.

The user (a detector's probability for each window):

    silent   -> speaking   2 windows in a row at 0.5 or above; the onset is the first one's start
    speaking -> silent     10 windows in a row below 0.35; the end is the first one's start

The agent (the level of each frame; contract, section 1):

    silent   -> speaking   2 of the last 3 frames above -45 dBFS; the onset is the first loud one's start
    speaking -> silent     5 frames in a row not above it; the end is the first one's start
"""

from collections import deque

import attrs

__all__ = ["AgentTurns", "Turn", "UserTurns"]


@attrs.frozen
class Turn:
    """The start or stop of one side's speech, ``at`` seconds on the time line."""

    started: bool
    at: float
    probability: float = 1.0


@attrs.define
class UserTurns:
    """The user's turns."""

    ONSET_PROBABILITY = 0.5
    END_PROBABILITY = 0.35
    ONSET_WINDOWS = 2
    END_WINDOWS = 10

    speaking: bool = False
    run: int = 0
    """Consecutive windows in favour of a change."""
    since: float = 0.0
    """Start of the first of them, in seconds."""

    def update(self, probability: float, at: float) -> Turn | None:
        """Take the probability of the window that begins ``at``; return the turn that it starts or stops, if any."""
        changes = probability < self.END_PROBABILITY if self.speaking else probability >= self.ONSET_PROBABILITY
        if not changes:
            self.run = 0
            return None
        self.since = at if self.run == 0 else self.since
        self.run += 1
        if self.run < (self.END_WINDOWS if self.speaking else self.ONSET_WINDOWS):
            return None
        self.speaking, self.run = not self.speaking, 0
        return Turn(self.speaking, self.since, probability)


@attrs.define
class AgentTurns:
    """The agent's turns."""

    LEVEL = -45.0
    ONSET_FRAMES = 2
    ONSET_WITHIN = 3
    END_FRAMES = 5

    speaking: bool = False
    recent: deque[tuple[float, bool]] = attrs.Factory(lambda: deque(maxlen=AgentTurns.END_FRAMES))
    """Start and loudness of the last frames since the last change."""

    @property
    def beginning(self) -> bool:
        """Whether there has been a sound that the next frame may turn out to be the beginning of speech."""
        return not self.speaking and any(loud for _, loud in list(self.recent)[1 - self.ONSET_WITHIN :])

    def presume(self) -> None:
        """Take a sound that may be the beginning of speech for that, so that it has an end; of silence nothing is."""
        if self.beginning:
            self.speaking = True
            self.recent.clear()

    def update(self, level: float, at: float) -> Turn | None:
        """Take the level in dBFS of the frame that begins ``at``; return the turn that it starts or stops, if any."""
        self.recent.append((at, level > self.LEVEL))
        within, wanted = (self.END_FRAMES, self.END_FRAMES) if self.speaking else (self.ONSET_WITHIN, self.ONSET_FRAMES)
        changing = [start for start, loud in list(self.recent)[-within:] if loud != self.speaking]
        if len(changing) < wanted:
            return None
        self.speaking = not self.speaking
        self.recent.clear()
        return Turn(self.speaking, changing[0])
