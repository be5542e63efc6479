"""What the tests of ``/v1/realtime`` share: clients' messages, those of a response, and a call without a server."""

import json

import numpy as np

from duplex.events import AgentText
from duplex.options import SessionOptions
from duplex.server.wires.base import Begin, CallDescription, Opening, Reply
from duplex.server.wires.realtime import RealtimeWire

UPDATE = {
    "type": "session.update",
    "event_id": "mine",
    "session": {
        "type": "realtime",
        "model": "gpt-realtime",
        "instructions": "Be kind.",
        "output_modalities": ["audio"],
        "tools": [{"type": "function", "name": "weather"}],
        "audio": {
            "input": {
                "format": {"type": "audio/pcmu"},
                "transcription": {"model": "whisper-1"},
                "turn_detection": {"type": "server_vad", "interrupt_response": True},
            },
            "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "marin"},
        },
    },
}
MESSAGES = [
    UPDATE,
    {"type": "input_audio_buffer.append", "audio": "AAAA", "event_id": "a"},
    {"type": "input_audio_buffer.commit"},
    {"type": "input_audio_buffer.clear"},
    {"type": "output_audio_buffer.clear"},
    {"type": "response.create", "response": {"metadata": {"topic": "x"}, "instructions": "Say it."}},
    {"type": "response.cancel", "response_id": "resp_1"},
    {
        "type": "conversation.item.create",
        "previous_item_id": "root",
        "item": {"id": "i1", "type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
    },
    {"type": "conversation.item.retrieve", "item_id": "i1"},
    {"type": "conversation.item.truncate", "item_id": "i1", "content_index": 0, "audio_end_ms": 100},
    {"type": "conversation.item.delete", "item_id": "i1"},
]
OF_A_RESPONSE = [
    "response.created",
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "response.output_item.done",
    "conversation.item.done",
    "response.done",
]
DELTAS = ("response.output_audio.delta", "response.output_audio_transcript.delta")


def kinds(messages, without=DELTAS):
    return [message["type"] for message in messages if message["type"] not in without]


FRAME = 0.08
LOUD, SOFT, SILENT = (np.full(1920, level, np.float32) for level in (0.2, 0.004, 0.0))


class Talk:
    """A wire whose call has begun, and everything that it has said."""

    def __init__(self, query=None, **session):
        self.wire = RealtimeWire(Opening(url="ws://x/v1/realtime", query=query or {}, headers={}))
        self.told, self.actions, self.frames = [], [], 0
        self._hear(self.wire.opened())
        self.send(type="session.update", session={"instructions": "Be kind.", **session})
        (begin,) = (action for action in self.actions if isinstance(action, Begin))
        self.request = begin.request
        self._hear(self.wire.admitted(described(left_out=("no persona here",))))

    def _hear(self, messages):
        self.told += [json.loads(message) for message in messages]

    def send(self, **message):
        """Send a message; return what it was answered."""
        before = len(self.told)
        actions = list(self.wire.receive(json.dumps(message)))
        self.actions += actions
        self._hear(action.message for action in actions if isinstance(action, Reply))
        return self.told[before:]

    def tell(self, kind, at=0.0, **values):
        before = len(self.told)
        self._hear(self.wire.tell(kind(sequence=0, at=at, **values)))
        return self.told[before:]

    def say(self, word):
        return self.tell(AgentText, text=word, token=1)

    def play(self, *frames):
        """Let the agent's frames be sent, each with its number as its payload."""
        before = len(self.told)
        for pcm in frames:
            self._hear(self.wire.audio(pcm, bytes([self.frames % 256])))
            self.frames += 1
        return self.told[before:]

    def speak(self, *words):
        """Let the agent say something from beginning to end; return what was told."""
        before = len(self.told)
        self.play(SILENT, LOUD, LOUD)
        for word in words:
            self.say(word)
        self.play(*[SILENT] * 5)
        return self.told[before:]


def described(**changes):
    values = {"model": "tiny", "sample_rate": 24000, "frame_duration": FRAME, "options": SessionOptions()}
    return CallDescription(**{**values, **changes})


def of(messages, kind):
    return [message for message in messages if message["type"] == kind]
