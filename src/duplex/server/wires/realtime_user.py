"""The user's speech on ``/v1/realtime``: turns as items, and their words.

1. A turn that is told has ``speech_started``, ``speech_stopped`` and ``committed``, in this order, and an item.
2. Words belong to the last turn that had begun when they were said. They give an item even to a turn that is not told.
3. A turn's words are complete when it has stopped and no word has come for a while (:data:`COMPLETE_SECONDS`).
"""

from collections import deque
from collections.abc import Iterator
from typing import cast

import attrs

from duplex.events import JsonValue, UserText
from duplex.server.wires.json_messages import new_id
from duplex.server.wires.realtime_items import Items, message, user_item

__all__ = ["UserSpeech"]

COMPLETE_SECONDS = 1.0
SLACK_SECONDS = 0.5
"""By which a word may begin before its turn was noticed."""
TURNS = 8
"""That may wait for words."""


@attrs.define
class _Turn:
    since: float
    """On the time line, in seconds."""
    told: bool
    item: dict[str, JsonValue] = attrs.field(factory=lambda: user_item(new_id("item")))
    listed: bool = False
    """Whether its item is in the conversation."""
    words: list[str] = attrs.Factory(list[str])
    until: float | None = None
    """When it stopped, once it has."""
    quiet_since: float = 0.0
    """When the last that belongs to it came."""
    complete: bool = False

    @property
    def id(self) -> str:
        return str(self.item["id"])

    def told_as(self, kind: str, **values: JsonValue) -> str:
        return message(kind, item_id=self.id, **values)


@attrs.define
class UserSpeech:
    """The turns of one conversation's user."""

    _items: Items
    now: float = 0.0
    """The place on the time line, in seconds."""
    _turns: deque[_Turn] = attrs.Factory(lambda: deque(maxlen=TURNS))

    def started(self, at: float, *, told: bool) -> Iterator[str]:
        """Take a turn's start; it is ``told`` or not."""
        turn = _Turn(at, told)
        self._turns.append(turn)
        if told:
            yield turn.told_as("input_audio_buffer.speech_started", audio_start_ms=round(at * 1000))

    def stopped(self, at: float) -> Iterator[str]:
        """Take a turn's end."""
        turn = self._turns[-1] if self._turns else None
        if turn is None or turn.until is not None:
            return
        turn.until, turn.quiet_since = at, self.now
        if turn.told:
            yield turn.told_as("input_audio_buffer.speech_stopped", audio_end_ms=round(at * 1000))
            yield from self._commit(turn)

    def commit(self) -> Iterator[str]:
        """Answer a client that says by itself where a turn of the user ends."""
        turn = self._turns[-1] if self._turns else None
        if turn is None or turn.listed or turn.complete:
            turn = _Turn(self.now, told=False, until=self.now, quiet_since=self.now)
            self._turns.append(turn)
        yield from self._commit(turn)

    def text(self, word: UserText) -> Iterator[str]:
        """Take a word."""
        turn = self._turn_of(word)
        yield from self._list(turn)
        yield turn.told_as(
            "conversation.item.input_audio_transcription.delta",
            content_index=0,
            delta=f" {word.text}" if turn.words else word.text,
        )
        turn.words.append(word.text)
        turn.quiet_since = self.now

    def tick(self, now: float) -> Iterator[str]:
        """Take the place on the time line, and tell whose words are complete."""
        self.now = max(self.now, now)
        for turn in self._turns:
            if turn.until is not None and self.now - turn.quiet_since >= COMPLETE_SECONDS:
                yield from self._complete(turn)

    def finish(self) -> Iterator[str]:
        """End what is going on: no more comes."""
        for turn in self._turns:
            yield from self._complete(turn)

    def _turn_of(self, word: UserText) -> _Turn:
        waiting = [turn for turn in self._turns if not turn.complete]
        before = [turn for turn in waiting if turn.since <= word.start + SLACK_SECONDS]
        if before or waiting:
            return before[-1] if before else waiting[0]
        turn = _Turn(word.start, told=False, until=word.end)
        self._turns.append(turn)
        return turn

    def _commit(self, turn: _Turn) -> Iterator[str]:
        yield turn.told_as("input_audio_buffer.committed", previous_item_id=self._items.last)
        yield from self._list(turn)

    def _list(self, turn: _Turn) -> Iterator[str]:
        if not turn.listed:
            turn.listed = True
            yield self._items.add(turn.item)
            yield self._items.done(turn.item)

    def _complete(self, turn: _Turn) -> Iterator[str]:
        """Tell that no more words of a turn come, if some have come."""
        if turn.complete or not turn.words:
            return
        turn.complete = True
        text = " ".join(turn.words)
        cast("list[dict[str, JsonValue]]", turn.item["content"])[0]["transcript"] = text
        yield turn.told_as(
            "conversation.item.input_audio_transcription.completed",
            content_index=0,
            transcript=text,
            usage={"type": "duration", "seconds": round(max((turn.until or self.now) - turn.since, 0.0), 3)},
        )
