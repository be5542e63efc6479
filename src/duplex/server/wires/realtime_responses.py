"""The agent's speech on ``/v1/realtime``: each stretch of it is a response.

    silent    -> speaking   the agent's turn starts: response.created
    speaking  -> silent     it stops: response.done, completed
    speaking  -> cut        the client cancels or truncates it, or the user interrupts: response.done, cancelled
    silent    -> cut        the same while a sound may be the beginning of a turn: no response is heard of it
    cut       -> silent     the agent's turn stops: what came until then is not told

1. The turns are those of :class:`AgentTurns` over the frames that are sent.
2. A response begins with the last frames before its turn was noticed, so that nothing of the first sound is missing.
3. Words that come shortly before a response are its own.
4. ``response.create`` cannot make the model speak: it claims the next response, for so long (:data:`CLAIM_SECONDS`).
"""

from base64 import b64encode
from collections import deque
from collections.abc import Iterator

import attrs

from duplex.conversation.turns import AgentTurns
from duplex.events import JsonValue
from duplex.server.wires.json_messages import BadMessage, new_id
from duplex.server.wires.realtime_items import Items, assistant_item, message

__all__ = ["Claim", "Responses"]

CLAIM_SECONDS = 9.0
"""That a claim waits: clients give up after ten."""
WORDS_SECONDS = 2.0
"""That words wait for the response they belong to."""
LEAD_FRAMES = AgentTurns.ONSET_WITHIN
"""Before the frame in which a turn is noticed: those in which it may have begun, and one for a soft beginning."""


@attrs.frozen
class Claim:
    """What a client has asked for by ``response.create``."""

    metadata: dict[str, JsonValue] | None = None
    left_out: tuple[str, ...] = ()


@attrs.define
class _Response:
    item: dict[str, JsonValue]
    claim: Claim
    id: str = attrs.field(factory=lambda: new_id("resp"))
    words: list[str] = attrs.Factory(list[str])
    frames: int = 0

    def of(self, kind: str, **values: JsonValue) -> str:
        """Return a message of the response's only part."""
        places: dict[str, JsonValue] = {"response_id": self.id, "output_index": 0}
        return message(f"response.{kind}", **places, **values)

    def of_part(self, kind: str, **values: JsonValue) -> str:
        return self.of(kind, item_id=self.item["id"], content_index=0, **values)

    def resource(self, status: str, **values: JsonValue) -> dict[str, JsonValue]:
        left_out: list[JsonValue] = [*self.claim.left_out]
        return {
            "object": "realtime.response",
            "id": self.id,
            "status": status,
            "status_details": None,
            "output": [],
            "output_modalities": ["audio"],
            "metadata": self.claim.metadata,
            "usage": None,
            "left_out": left_out,
            **values,
        }


@attrs.define
class Responses:
    """The agent's speech of one conversation; ``frame_seconds`` is what a frame lasts."""

    _items: Items
    frame_seconds: float = 0.08
    _turns: AgentTurns = attrs.Factory(AgentTurns)
    _lead: deque[bytes] = attrs.Factory(lambda: deque(maxlen=LEAD_FRAMES))
    """The last frames of a silence."""
    _words: deque[tuple[int, str]] = attrs.Factory(deque[tuple[int, str]])
    """Those that no response has yet, with the frame before which they came."""
    _running: _Response | None = None
    _claim: tuple[Claim, int] | None = None
    """What waits for a response, and the frame before which it came."""
    _frames: int = 0
    """That the agent has sent."""
    _told_frames: int = 0
    """Of them, those of which a usage has told."""

    @property
    def running(self) -> bool:
        """Whether a response is going on."""
        return self._running is not None

    def frame(self, level: float, payload: bytes) -> Iterator[str]:
        """Take the agent's next frame: its level in dBFS, and as it travels."""
        turn = self._turns.update(level, self._frames * self.frame_seconds)
        self._frames += 1
        if turn is not None and turn.started:
            yield from self._begin()
            for earlier in self._lead:
                yield from self._sound(earlier)
        if self._running is not None:
            yield from self._sound(payload)
        if self._turns.speaking:
            self._lead.clear()
        elif turn is None:
            self._lead.append(payload)
        else:
            yield from self._end("completed")
        yield from self._forget()

    def text(self, piece: str) -> Iterator[str]:
        """Take a piece of the agent's text."""
        if self._running is not None:
            yield self._word(self._running, piece)
        elif not self._turns.speaking:  # or it belongs to what has been cut off
            self._words.append((self._frames, piece))

    def claim(self, claim: Claim) -> None:
        """Take a ``response.create``.

        :raises BadMessage: if another one waits
        """
        if self._claim is not None:
            code = "conversation_already_has_active_response"
            raise BadMessage(code, "another response has been asked for and has not begun; wait for it")
        self._claim = claim, self._frames

    def owns(self, item_id: object) -> bool:
        """Whether an item is that of the response that is going on."""
        return self._running is not None and self._running.item["id"] == item_id

    def cancel(self, response_id: str | None = None) -> Iterator[str]:
        """Cut off the response that is going on, or take back the claim to the next one.

        :raises BadMessage: if there is none
        """
        if self._running is not None and response_id in (None, self._running.id):
            return self.cut("client_cancelled")
        if self._running is None and response_id is None and (self._claim is not None or self._turns.beginning):
            self._presume()
            return self._give_up("cancelled", _cancelled("client_cancelled"))
        raise BadMessage(
            "response_cancel_not_active", "Cancellation failed: no such response is going on", "response_id"
        )

    def cut(self, reason: str) -> Iterator[str]:
        """Tell no more of the response that is going on or begins, if one does."""
        if self._turns.beginning:
            self._presume()
            if self._claim is not None:  # it would have been this response
                yield from self._give_up("cancelled", _cancelled(reason))
        yield from self._end("cancelled", _cancelled(reason))

    def finish(self) -> Iterator[str]:
        """End what is going on: no more comes."""
        yield from self._end("completed")
        if self._claim is not None:
            yield from self._give_up("incomplete", {"type": "incomplete"})

    def _begin(self) -> Iterator[str]:
        claim, self._claim = (self._claim[0] if self._claim else Claim()), None
        self._running = response = _Response(assistant_item(new_id("item")), claim)
        yield message("response.created", response=response.resource("in_progress"))
        yield response.of("output_item.added", item=response.item)
        yield self._items.add(response.item)
        yield response.of_part("content_part.added", part={"type": "audio", "transcript": ""})
        while self._words:
            yield self._word(response, self._words.popleft()[1])

    def _word(self, response: _Response, piece: str) -> str:
        piece = piece if response.words else piece.lstrip()  # what follows is joined as it is
        response.words.append(piece)
        return response.of_part("output_audio_transcript.delta", delta=piece)

    def _sound(self, payload: bytes) -> Iterator[str]:
        if self._running is not None and payload:
            self._running.frames += 1
            yield self._running.of_part("output_audio.delta", delta=b64encode(payload).decode())

    def _end(self, status: str, details: JsonValue = None) -> Iterator[str]:
        response, self._running = self._running, None
        if response is None:
            return
        text = "".join(response.words).strip()
        item = response.item
        item |= {
            "status": "completed" if status == "completed" else "incomplete",
            "content": [{"type": "output_audio", "transcript": text}],
        }
        yield response.of_part("output_audio.done")
        yield response.of_part("output_audio_transcript.done", transcript=text)
        yield response.of_part("content_part.done", part={"type": "audio", "transcript": text})
        yield response.of("output_item.done", item=item)
        yield self._items.done(item)
        yield self._done(response, status, details, [item])

    def _presume(self) -> None:
        """Tell nothing of a turn that may have begun."""
        if self._turns.beginning:
            self._turns.presume()
            self._lead.clear()
            self._words.clear()

    def _give_up(self, status: str, details: JsonValue) -> Iterator[str]:
        """Answer a claim without speech."""
        claim, self._claim = (self._claim[0] if self._claim else Claim()), None
        response = _Response({}, claim)
        yield message("response.created", response=response.resource("in_progress"))
        yield self._done(response, status, details, [])

    def _done(self, response: _Response, status: str, details: JsonValue, output: list[JsonValue]) -> str:
        heard, self._told_frames = self._frames - self._told_frames, self._frames
        said, words = response.frames, len(response.words)
        usage: dict[str, JsonValue] = {
            "total_tokens": heard + said + words,
            "input_tokens": heard,
            "output_tokens": said + words,
            "input_token_details": {"audio_tokens": heard, "text_tokens": 0, "cached_tokens": 0},
            "output_token_details": {"audio_tokens": said, "text_tokens": words},
        }
        done = response.resource(status, status_details=details, output=output, usage=usage)
        return message("response.done", response=done)

    def _forget(self) -> Iterator[str]:
        """Let go of what has waited too long for a response."""
        while self._words and (self._frames - self._words[0][0]) * self.frame_seconds > WORDS_SECONDS:
            self._words.popleft()
        if self._claim is None or self.running:
            return
        if (self._frames - self._claim[1]) * self.frame_seconds >= CLAIM_SECONDS:
            yield from self._give_up("incomplete", {"type": "incomplete"})


def _cancelled(reason: str) -> dict[str, JsonValue]:
    return {"type": "cancelled", "reason": reason}
