"""What is known of a call at a moment: pure, told of each event with the time it came at.

Rules:

- An utterance of the agent begins with the first piece of text after a second without one; it has ended when a second
  has passed without text, and when the conversation ends.
- The reply time is from the end of the user's speech to the start of the agent's, both on the session's time line.
- The delay is how much later than in real time the agent's audio came.
"""

from collections import deque
from typing import Literal, TypeAlias

import attrs
from numpy import float32
from numpy.typing import NDArray

from duplex.audio.pcm import SILENCE_DBFS, level_dbfs
from duplex.events import (
    AgentAudio,
    AgentSpeechStarted,
    AgentSpeechStopped,
    AgentText,
    Event,
    KeyPressed,
    Lag,
    SessionEnded,
    SessionStarted,
    UserSpeechStarted,
    UserSpeechStopped,
    UserText,
)

__all__ = ["CallState", "LaneFrame", "Utterance"]

PAUSE_SECONDS = 1.0
KEPT_FRAMES = 4000
KEPT_UTTERANCES = 500
Speaker: TypeAlias = Literal["you", "agent"]


@attrs.define
class Utterance:
    """What one side said in one go; ``text`` is empty for the user. Times are in seconds on the session's time line."""

    speaker: Speaker
    start: float
    text: str = ""
    end: float | None = None


@attrs.frozen
class LaneFrame:
    """One frame of both lanes: levels in dBFS, and who speaks."""

    user_level: float
    agent_level: float
    user_speaks: bool
    agent_speaks: bool


class CallState:
    """A call so far. ``frame_duration`` is 80 ms until the session tells its own."""

    def __init__(self) -> None:
        self.model: str = ""
        self.session_id: str = ""
        self.ended: bool = False
        self.at: float = 0.0
        """End of the last frame, seconds."""
        self.frame_duration: float = 0.08
        self.user_speaks: bool = False
        self.agent_speaks: bool = False
        self.reply_seconds: float | None = None
        self.delay_seconds: float | None = None
        self.lost_seconds: float = 0.0
        self.utterances: deque[Utterance] = deque(maxlen=KEPT_UTTERANCES)
        self.lanes: deque[LaneFrame] = deque(maxlen=KEPT_FRAMES)
        self._ended_utterances: list[Utterance] = []
        self._open: dict[Speaker, Utterance] = {}
        self._last_text = 0.0
        self._user_stopped: float | None = None
        self._began = 0.0

    def feed(  # noqa: C901 -- a case for each event
        self, event: Event, now: float, user_level: float = SILENCE_DBFS
    ) -> None:
        """Take an event that came at ``now``, in seconds of a monotonic clock, and the microphone's level, dBFS."""
        match event:
            case SessionStarted():
                self.model, self.session_id = event.model, event.session_id
                self.frame_duration, self._began = event.frame_duration, now
            case AgentAudio(at=at, pcm=pcm):
                self._frame(at, pcm, now, user_level)
            case AgentText(at=at, text=text):
                self._text(at, text)
            case UserSpeechStarted(at=at):
                self.user_speaks = True
                self._begin("you", at)
            case UserSpeechStopped(at=at):
                self.user_speaks, self._user_stopped = False, at
                self._end("you", at)
            case AgentSpeechStarted(at=at):
                self.agent_speaks = True
                self._answered(at)
            case AgentSpeechStopped():
                self.agent_speaks = False
            case Lag(dropped=dropped):
                self.lost_seconds += dropped
            case UserText() | KeyPressed():  # the screen shows that the user speaks, not what
                return
            case SessionEnded():
                self.end()

    def take_ended(self) -> list[Utterance]:
        """Return the utterances that have ended since the last call, in the order of their ends."""
        ended, self._ended_utterances = self._ended_utterances, []
        return ended

    def end(self) -> None:
        """Say that the conversation is over."""
        self.ended = True
        self.user_speaks = self.agent_speaks = False
        for speaker in list(self._open):
            self._end(speaker, self.at)

    def _frame(self, at: float, pcm: NDArray[float32], now: float, user_level: float) -> None:
        self.at = at + self.frame_duration
        self.delay_seconds = max(now - self._began - self.at, 0.0)
        self.lanes.append(LaneFrame(user_level, level_dbfs(pcm), self.user_speaks, self.agent_speaks))
        self._end_pause(at)

    def _text(self, at: float, text: str) -> None:
        self._end_pause(at)
        if "agent" not in self._open:
            self._begin("agent", at)
        self._open["agent"].text += text
        self._last_text = at

    def _answered(self, at: float) -> None:
        if self._user_stopped is not None:
            self.reply_seconds = max(at - self._user_stopped, 0.0)
            self._user_stopped = None

    def _end_pause(self, at: float) -> None:
        if "agent" in self._open and at - self._last_text > PAUSE_SECONDS:
            self._end("agent", self._last_text + self.frame_duration)

    def _begin(self, speaker: Speaker, at: float) -> None:
        self._end(speaker, at)
        self._open[speaker] = utterance = Utterance(speaker, at)
        self.utterances.append(utterance)

    def _end(self, speaker: Speaker, at: float) -> None:
        utterance = self._open.pop(speaker, None)
        if utterance is not None:
            utterance.end = max(at, utterance.start)
            self._ended_utterances.append(utterance)
