"""What the tests of ``/v1/realtime`` share: what clients send, and the messages of a response."""

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
