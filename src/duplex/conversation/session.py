"""One conversation, sans I/O: frames in, events out.

:class:`Session` derives a conversation's events (who speaks, what is said, what was lost), without models, threads or
clocks. :class:`EventQueue` holds its events until the application takes them, within bounds, and gives them
their numbers as it does: what was dropped leaves no gap.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Literal

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex import events
from duplex.checkpoints.tokenizer import StreamingDetokenizer
from duplex.conversation.saved import checked_numbers
from duplex.conversation.turns import AgentTurns, UserTurns
from duplex.errors import ConsumerTooSlow, StateError
from duplex.frame_model import Frame, ModelSpec
from duplex.transcription.protocol import Word
from duplex.voice_activity.protocol import FrameActivity, VoiceActivity

__all__ = ["UNNUMBERED", "EventQueue", "Session"]

UNNUMBERED = -1
"""The sequence of an event that has not been queued."""


class Session:
    """Turns the frames of one conversation into its events.

    >>> session.start("s1", "tiny", seed=0)          # doctest: +SKIP
    [SessionStarted(sequence=-1, at=0.0, ...)]
    >>> session.process(frame, activity)                # doctest: +SKIP
    [AgentAudio(sequence=-1, at=0.0, ...), AgentText(sequence=-1, at=0.0, text=' hello', ...)]
    """

    def __init__(
        self, spec: ModelSpec, decoder: StreamingDetokenizer, voice: VoiceActivity, *, audio_events: bool = True
    ) -> None:
        self._spec = spec
        self._audio_events = audio_events
        self._decoder = decoder
        self.voice = voice
        """The detector, whose state is part of the session's; the caller runs it, on each frame in order."""
        self._user = UserTurns()
        self._agent = AgentTurns()
        self._windows = 0
        self._frames = 0
        self._end = 0.0
        self._dropped = 0.0

    def start(self, session_id: str, model: str, seed: int) -> list[events.Event]:
        """Begin the session; return its first event."""
        return [
            events.SessionStarted(
                sequence=UNNUMBERED,
                at=self._end,
                session_id=session_id,
                model=model,
                seed=seed,
                sample_rate=self._spec.sample_rate,
                frame_duration=self._spec.frame_duration,
            )
        ]

    def process(self, frame: Frame, activity: FrameActivity, *, agent_silent: bool = False) -> list[events.Event]:
        """Process the next time step and its voice activity; return its events, without a silenced agent's words."""
        found = [*self._user_turns(frame, activity.probabilities), *self._agent_frame(frame, activity.agent_level)]
        found += self._text(frame, agent_silent=agent_silent)
        self._frames += 1
        self._end = frame.at + self._spec.frame_duration
        return found

    def user_text(self, word: Word) -> list[events.Event]:
        """Report what the user said."""
        return [events.UserText(sequence=UNNUMBERED, at=word.start, text=word.text, start=word.start, end=word.end)]

    def lag(
        self, at: float, behind: float, dropped: float, side: Literal["user", "agent", "transcript"]
    ) -> list[events.Event]:
        """Report that ``dropped`` seconds of one side's audio were lost, from ``at`` on."""
        if side == "user":
            self._dropped += dropped
        return [events.Lag(sequence=UNNUMBERED, at=at, behind=behind, dropped=dropped, side=side)]

    def key(self, key: str) -> list[events.Event]:
        """Report that the user pressed a key."""
        return [events.KeyPressed(sequence=UNNUMBERED, at=self._end, key=key)]

    @property
    def now(self) -> float:
        """The end of the last frame on the time line."""
        return self._end

    def finish(self, reason: events.EndReason) -> list[events.Event]:
        """End the session; return its last event."""
        used = events.Usage(
            frames=self._frames, seconds=self._spec.seconds(self._frames), dropped_seconds=self._dropped
        )
        return [events.SessionEnded(sequence=UNNUMBERED, at=self._end, reason=reason, usage=used)]

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return the session's state, for :meth:`restore`."""
        loud = np.array(self._agent.recent, np.float64).reshape(-1, 2)
        turns = [self._user.speaking, self._user.run, self._user.since, self._agent.speaking]
        return {
            "turns": np.array(turns, np.float64),
            "agent.recent": loud,
            "counts": np.array([self._windows, self._frames, self._end, self._dropped], np.float64),
            "text": np.frombuffer(self._decoder.state(), np.uint8),
            **{f"voice.{name}": tensor for name, tensor in self.voice.state().items()},
        }

    def restore(self, state: Mapping[str, NDArray[np.generic]], *, until: float = math.inf) -> None:
        """Go on where :meth:`state` was taken, ``until`` seconds on the time line: nothing in it is later.

        :raises StateError: if it is damaged
        """
        try:
            self._restore(state, until)
        except (KeyError, ValueError, TypeError, IndexError, OverflowError, AttributeError) as error:
            raise StateError(f"the saved conversation is damaged ({error}); export it anew") from error

    def _restore(self, state: Mapping[str, NDArray[np.generic]], until: float) -> None:
        speaking, run, since, agent_speaking = checked_numbers(state, "turns", 4).tolist()
        loud = checked_numbers(state, "agent.recent", -1, 2)
        windows, frames, end, dropped = checked_numbers(state, "counts", 4).tolist()
        text = state["text"]
        # A window may end after its frame; a frame has ended when it is counted.
        slack = self.voice.window + self._spec.frame_duration
        late = (
            max(since, end, *loud[:, 0], self._spec.seconds(int(frames)), windows * self.voice.window) > until + slack
        )
        if late or run > UserTurns.END_WINDOWS or len(loud) > AgentTurns.END_FRAMES or text.dtype != np.uint8:
            raise ValueError("its counts do not fit its length")
        self._user = UserTurns(bool(speaking), int(run), since)
        recent = deque(((at, bool(is_loud)) for at, is_loud in loud.tolist()), maxlen=AgentTurns.END_FRAMES)
        self._agent = AgentTurns(bool(agent_speaking), recent)
        self._windows, self._frames, self._end, self._dropped = int(windows), int(frames), end, dropped
        self._decoder.restore(text.tobytes())
        self.voice.restore(_voice_state(state))

    def _user_turns(self, frame: Frame, probabilities: Sequence[float]) -> list[events.Event]:
        """Update the user's turns; windows need not align with frames, and are counted over the processed frames."""
        found: list[events.Event] = []
        # A skipped stretch moves the time line, but no window: their distance is what was dropped before this frame.
        offset = frame.at - self._spec.seconds(self._frames)
        for probability in probabilities:
            turn = self._user.update(probability, self._windows * self.voice.window + offset)
            self._windows += 1
            if turn is not None:
                kind = events.UserSpeechStarted if turn.started else events.UserSpeechStopped
                found.append(kind(sequence=UNNUMBERED, at=turn.at, probability=turn.probability))
        return found

    def _text(self, frame: Frame, *, agent_silent: bool) -> list[events.Event]:
        piece = self._decoder.feed(frame.text)
        if not piece or agent_silent:
            return []
        return [events.AgentText(sequence=UNNUMBERED, at=frame.at, text=piece, token=frame.text)]

    def _agent_frame(self, frame: Frame, level: float) -> list[events.Event]:
        if frame.agent_pcm is None:
            return []
        found: list[events.Event] = []
        turn = self._agent.update(level, frame.at)
        if turn is not None:
            kind = events.AgentSpeechStarted if turn.started else events.AgentSpeechStopped
            found.append(kind(sequence=UNNUMBERED, at=turn.at))
        if not self._audio_events:
            return found
        return [*found, events.AgentAudio(sequence=UNNUMBERED, at=frame.at, pcm=frame.agent_pcm)]


def _voice_state(state: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.float32]]:
    """Return the detector's part of a session's state.

    :raises ValueError: if it has NaN or infinity, or something else than floating numbers
    """
    prefix = "voice."
    found: dict[str, NDArray[np.float32]] = {}
    for name, value in state.items():
        if name.startswith(prefix):
            if value.dtype != np.float32 or not np.isfinite(value).all():
                raise ValueError(f"'{name}' is {value.dtype}, or has NaN or infinity")
            found[name.removeprefix(prefix)] = value.astype(np.float32)
    return found


class EventQueue:
    """Events that wait for the application.

    In real time at most ``AUDIO_SECONDS`` of the agent's audio wait: the oldest is dropped for the newest, and a
    ``Lag`` stands in its place. Other events are kept. When more than ``LIMIT_SECONDS`` of frames have passed since the
    oldest event that waits, or waited and was dropped, the consumer counts as gone. Otherwise the queue only tells
    when it is :attr:`full`, and whoever fills it waits.
    """

    AUDIO_SECONDS = 5.0
    LIMIT_SECONDS = 30.0
    OFFLINE_EVENTS = 256

    def __init__(self, *, realtime: bool, frame_duration: float, first: int = 0) -> None:
        self._realtime = realtime
        self._frame_duration = frame_duration
        self._waiting: deque[tuple[int, events.Event]] = deque()
        self._passed = 0
        self._audio_frames = 0
        self._sequence = first

    @property
    def full(self) -> bool:
        """Whether nothing more should be put before something is taken; never in real time."""
        return not self._realtime and len(self._waiting) >= self.OFFLINE_EVENTS

    @property
    def waiting(self) -> int:
        """How many events wait."""
        return len(self._waiting)

    @property
    def next_sequence(self) -> int:
        """The number of the event that is put next, if nothing is dropped before it is taken."""
        return self._sequence + len(self._waiting)

    def pass_frame(self) -> None:
        """Count a frame of the conversation: the age of what waits.

        :raises ConsumerTooSlow: if the application has not taken events for more than ``LIMIT_SECONDS``
        """
        self._passed += 1
        if self._realtime and self._waiting:
            age = self._passed - self._waiting[0][0]
            if age * self._frame_duration > self.LIMIT_SECONDS:
                raise ConsumerTooSlow(
                    f"no event was taken for {self.LIMIT_SECONDS:g} seconds of live audio; iterate over the "
                    "conversation in a task of its own, and do slow work elsewhere"
                )

    def put(self, event: events.Event) -> None:
        """Add an event."""
        self._waiting.append((self._passed, event))
        if isinstance(event, events.AgentAudio):
            self._audio_frames += 1
            if self._realtime and self._audio_frames * self._frame_duration > self.AUDIO_SECONDS:
                self._drop_oldest(event.at)

    def take(self) -> events.Event | None:
        """Return the oldest event with its number, or ``None`` if none waits."""
        if not self._waiting:
            return None
        _, event = self._waiting.popleft()
        self._audio_frames -= isinstance(event, events.AgentAudio)
        self._sequence += 1
        return attrs.evolve(event, sequence=self._sequence - 1)

    def clear(self) -> None:
        """Discard all waiting events."""
        self._waiting.clear()
        self._audio_frames = 0

    def _drop_oldest(self, now: float) -> None:
        """Replace the oldest frame of audio by a ``Lag``, or add it to the ``Lag`` that stands there already."""
        index = next(i for i, (_, event) in enumerate(self._waiting) if isinstance(event, events.AgentAudio))
        passed, dropped = self._waiting[index]
        self._audio_frames -= 1
        lag = events.Lag(
            sequence=UNNUMBERED,
            at=dropped.at,
            behind=now - dropped.at,
            dropped=self._frame_duration,
            side="agent",
        )
        before_passed, before = self._waiting[index - 1] if index else (passed, None)
        if isinstance(before, events.Lag) and before.side == "agent":
            lag = attrs.evolve(before, behind=lag.behind, dropped=before.dropped + lag.dropped)
            del self._waiting[index]
            index, passed = index - 1, before_passed
        self._waiting[index] = passed, lag
