"""What ``/v1/realtime`` says and understands, without a server."""

import base64
import json
from collections import Counter

import pytest
from realtime_support import (
    DELTAS,
    LOUD,
    MESSAGES,
    OF_A_RESPONSE,
    SILENT,
    SOFT,
    UPDATE,
    Talk,
    kinds,
    of,
)
from wires_support import mutated

from duplex.audio.wire_codecs import AudioFormat
from duplex.events import UserSpeechStarted, UserSpeechStopped, UserText
from duplex.options import SessionOptions
from duplex.server.close_reasons import CloseReason
from duplex.server.wires.base import Audio, Begin, Opening, Reply
from duplex.server.wires.realtime import RealtimeWire


def payloads(messages):
    return [base64.b64decode(message["delta"])[0] for message in of(messages, DELTAS[0])]


def test_a_stretch_of_speech_is_a_response():
    talk = Talk()
    told = talk.speak(" Good", " day")
    assert kinds(told) == OF_A_RESPONSE
    assert payloads(told) == list(range(8))
    assert "".join(each["delta"] for each in of(told, DELTAS[1])) == "Good day"
    (done,) = of(told, "response.done")
    assert done["response"]["status"] == "completed"
    assert done["response"]["output"][0]["content"] == [{"type": "output_audio", "transcript": "Good day"}]
    assert done["response"]["usage"]["output_token_details"] == {"audio_tokens": 8, "text_tokens": 2}
    assert len({message["response_id"] for message in told if "response_id" in message}) == 1
    assert len({message["event_id"] for message in talk.told}) == len(talk.told)


def test_a_response_begins_at_its_onset_and_silence_is_not_told():
    talk = Talk()
    assert talk.play(*[SILENT] * 20, LOUD, SILENT) == []
    assert payloads(talk.play(LOUD)) == [19, 20, 21, 22]
    talk.play(*[SILENT] * 5)
    assert talk.play(*[SILENT] * 20, *[SOFT] * 20) == []


def test_words_that_come_just_before_belong_to_the_next_response():
    talk = Talk()
    talk.say(" Lost")
    talk.play(*[SILENT] * 27)
    talk.say(" So")
    talk.play(SILENT)
    told = talk.speak(" what")
    assert of(told, "response.output_audio_transcript.done")[0]["transcript"] == "So what"
    assert kinds(told)[:4] == OF_A_RESPONSE[:4]


def test_what_is_asked_for_and_what_is_in_force():
    talk = Talk(query={"model": "mine"}, **{name: value for name, value in UPDATE["session"].items() if name != "type"})
    assert talk.told[0]["type"] == "session.created"
    assert (talk.request.model, talk.request.options.voice, talk.request.lenient) == ("mine", "marin", True)
    assert (talk.request.heard, talk.request.said) == (AudioFormat("mulaw", 8000), AudioFormat("pcm", 24000))
    session = talk.told[-1]["session"]
    assert talk.told[-1]["type"] == "session.updated"
    assert (session["model"], session["instructions"], session["tools"]) == ("tiny", "", [])
    assert session["audio"]["output"]["voice"] == "default"
    assert session["audio"]["input"]["format"] == {"type": "audio/pcmu", "rate": 8000}
    assert session["audio"]["input"]["turn_detection"]["interrupt_response"] is True
    assert session["left_out"] == ["no persona here", "the model calls no tools"]


def test_what_cannot_change_stays_and_is_told():
    talk = Talk()
    changed = {
        "instructions": "Be rude.",
        "audio": {"input": {"format": {"type": "audio/pcma"}, "turn_detection": None}},
    }
    (told,) = talk.send(type="session.update", session=changed)
    assert told["session"]["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": 24000}
    assert told["session"]["audio"]["input"]["turn_detection"] is None
    assert [text for text in told["session"]["left_out"] if "cannot change" in text] == [
        "instructions and voice cannot change during a conversation",
        "the format of the user's audio cannot change during a conversation",
    ]
    assert Counter(map(type, talk.actions))[Begin] == 1


def test_the_caller_is_let_in_when_it_is_known_what_is_wanted():
    """Some clients send instructions in a later update, some none."""
    wire = RealtimeWire(Opening(url="", query={}, headers={}))
    (first,) = wire.receive(json.dumps({"type": "session.update", "session": {"audio": {"output": {"voice": "ash"}}}}))
    assert json.loads(first.message)["session"]["audio"]["output"]["voice"] == "ash"
    (second,) = wire.receive(json.dumps({"type": "session.update", "session": {"instructions": "Be kind."}}))
    assert second.request.options == SessionOptions(instructions="Be kind.", voice="ash")
    (third,) = wire.receive(json.dumps({"type": "session.update", "session": {"tools": []}}))
    assert isinstance(third, Reply)
    wire = RealtimeWire(Opening(url="", query={}, headers={}))
    begin, audio = wire.receive(json.dumps({"type": "input_audio_buffer.append", "audio": "AAAAAAAA"}))
    assert isinstance(begin, Begin)
    assert audio == Audio(bytes(6))


def test_the_queue():
    talk = Talk()
    waiting, over = (json.loads(message) for message in (*talk.wire.waiting(2), *talk.wire.started(b"")))
    assert "you are number 2 in the queue" in waiting["session"]["left_out"][-1]
    assert over["session"]["left_out"] == ["no persona here"]
    assert Talk().wire.started(b"") == ()


@pytest.mark.parametrize(
    ("detection", "silent", "speaking"),
    [
        ({"type": "server_vad"}, True, False),
        ({"type": "semantic_vad", "interrupt_response": False}, True, False),
        ({"type": "server_vad", "interrupt_response": True}, True, True),
        (None, False, False),
    ],
)
def test_which_turns_of_the_user_are_told(detection, silent, speaking):
    talk = Talk(audio={"input": {"turn_detection": detection}})
    for told in (silent, speaking):
        started = talk.tell(UserSpeechStarted, at=1.0, probability=0.9)
        stopped = talk.tell(UserSpeechStopped, at=1.5, probability=0.1)
        assert bool(of(started, "input_audio_buffer.speech_started")) == told
        turn = ["input_audio_buffer.speech_stopped", "input_audio_buffer.committed", *OF_A_RESPONSE[2:9:6]]
        assert kinds(stopped) == (turn if told else [])
        talk.play(LOUD, LOUD, LOUD)
    if speaking:
        assert of(talk.told, "response.done")[0]["response"]["status_details"]["reason"] == "turn_detected"
        assert len(of(talk.told, "response.created")) == 1


def test_the_users_words():
    talk = Talk(audio={"input": {"transcription": {"model": "whisper-1"}}})
    talk.tell(UserSpeechStarted, at=1.0, probability=0.9)
    talk.tell(UserSpeechStopped, at=2.0, probability=0.1)
    for at, word in ((1.0, "What"), (1.4, "time?")):
        talk.tell(UserText, at=at, text=word, start=at, end=at + 0.2)
    talk.tell(UserSpeechStarted, at=2.6, probability=0.9)
    talk.tell(UserText, at=2.7, text="Now?", start=2.7, end=2.9)
    talk.play(*[SILENT] * 50)
    talk.tell(UserSpeechStopped, at=3.0, probability=0.1)
    talk._hear(talk.wire.goodbye(CloseReason.FINISHED, ""))
    completed = of(talk.told, "conversation.item.input_audio_transcription.completed")
    assert [each["transcript"] for each in completed] == ["What time?", "Now?"]
    items = [each["item_id"] for each in of(talk.told, "input_audio_buffer.speech_started")]
    assert [each["item_id"] for each in completed] == items
    (item,) = talk.send(type="conversation.item.retrieve", item_id=items[0])
    assert item["item"]["content"] == [{"type": "input_audio", "transcript": "What time?"}]
    deltas = of(talk.told, "conversation.item.input_audio_transcription.delta")
    assert [each["delta"] for each in deltas] == ["What", " time?", "Now?"]


def test_words_of_a_turn_that_is_not_told_have_an_item():
    talk = Talk(audio={"input": {"transcription": {}, "turn_detection": None}})
    talk.tell(UserSpeechStarted, at=1.0, probability=0.9)
    told = talk.tell(UserText, at=1.0, text="Yes", start=1.0, end=1.2)
    assert kinds(told)[:2] == ["conversation.item.added", "conversation.item.done"]
    assert Talk().tell(UserText, at=1.0, text="Yes", start=1.0, end=1.2) == []


def test_a_response_that_is_asked_for_is_the_next_one():
    talk = Talk()
    talk.send(type="response.create", response={"metadata": {"topic": "t"}, "instructions": "Say it."})
    (error,) = talk.send(type="response.create", event_id="again")
    assert error["error"]["code"] == "conversation_already_has_active_response"
    assert error["error"]["event_id"] == "again"
    first, second = (of(talk.speak(" x"), "response.done")[0]["response"] for _ in range(2))
    assert (first["metadata"], second["metadata"]) == ({"topic": "t"}, None)
    assert "instructions" in first["left_out"][0]


def test_a_response_that_does_not_come():
    talk = Talk()
    talk.send(type="response.create", response={"metadata": {"topic": "t"}})
    told = talk.play(*[SILENT] * 125)
    assert kinds(told) == ["response.created", "response.done"]
    assert [each["response"]["metadata"] for each in told] == [{"topic": "t"}] * 2
    assert told[1]["response"]["status"] == "incomplete"
    talk.send(type="response.create")
    told = talk.send(type="response.cancel")
    assert told[-1]["response"]["status"] == "cancelled"


def test_text_is_taken_as_an_item_that_says_that_it_is_not_heard():
    talk = Talk()
    item = MESSAGES[7]["item"]
    added, done = talk.send(**MESSAGES[7])
    assert (added["type"], done["type"]) == ("conversation.item.added", "conversation.item.done")
    assert (added["item"]["status"], added["item"]["content"]) == ("incomplete", item["content"])
    assert "hears sound alone" in added["item"]["left_out"][0]
    for message, code in (
        (MESSAGES[7], "item_create_duplicate_item_id"),
        ({"type": "conversation.item.retrieve", "item_id": "gone"}, "item_retrieve_invalid_item_id"),
        (
            {"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": [1]}},
            "invalid_value",
        ),
        ({"type": "conversation.item.create", "item": {**item, "id": "x" * 600}}, "invalid_value"),
    ):
        assert talk.send(**message)[0]["error"]["code"] == code
    assert talk.send(type="conversation.item.delete", item_id="i1")[0]["type"] == "conversation.item.deleted"


def test_old_items_are_forgotten():
    talk = Talk()
    for _ in range(300):
        talk.speak(" x")
    first, last = (of(talk.told, "conversation.item.added")[place]["item"]["id"] for place in (0, -1))
    assert talk.send(type="conversation.item.retrieve", item_id=first)[0]["type"] == "error"
    assert talk.send(type="conversation.item.retrieve", item_id=last)[0]["type"] == "conversation.item.retrieved"


def test_clients_that_tell_turns_themselves():
    talk = Talk(audio={"input": {"turn_detection": None}})
    assert kinds(talk.send(type="input_audio_buffer.clear")) == ["input_audio_buffer.cleared"]
    told = talk.send(type="input_audio_buffer.commit")
    assert kinds(told) == ["input_audio_buffer.committed", "conversation.item.added", "conversation.item.done"]
    assert told[0]["item_id"] == told[1]["item"]["id"]


@pytest.mark.parametrize(
    ("message", "code", "param"),
    [
        ("{", "invalid_json", None),
        (b"\0\1", "invalid_json", None),
        ("[]", "invalid_json", None),
        ('{"type": "session.start"}', "unknown_event", "type"),
        ('{"type": 7}', "invalid_value", "type"),
        ('{"type": "input_audio_buffer.append", "audio": "A"}', "invalid_value", "audio"),
        ('{"type": "input_audio_buffer.append", "audio": "AAAA"}', "invalid_value", "audio"),
        ('{"type": "conversation.item.truncate"}', "missing_required_parameter", "item_id"),
        ('{"type": "session.update", "session": {"audio": {"input": {"format": "pcm16"}}}}', "invalid_value", None),
        ('{"type": "session.update", "session": {"type": "transcription"}}', "invalid_value", "session.type"),
        ('{"type": "response.create", "response": {"metadata": {"n": 1}}}', "invalid_value", "response.metadata"),
        (json.dumps({"type": "session.update", "session": {"instructions": "x" * 30_000}}), "invalid_value", None),
        (json.dumps({"type": "input_audio_buffer.append", "audio": "AAAA" * 200_000}), "invalid_value", "audio"),
    ],
)
def test_what_makes_no_sense(message, code, param):
    talk = Talk()
    (action,) = talk.wire.receive(message)
    error = json.loads(action.message)
    assert (error["type"], error["error"]["code"]) == ("error", code)
    assert error["error"]["type"] == "invalid_request_error"
    assert param in (None, error["error"]["param"])


def test_the_clients_name_for_a_message_is_in_the_error():
    assert Talk().send(type="nonsense", event_id="mine")[0]["error"]["event_id"] == "mine"


@pytest.mark.parametrize(("reason", "kind"), [("FAILED", "server_error"), ("IDLE", "invalid_request_error")])
def test_the_end(reason, kind):
    talk = Talk()
    talk.play(LOUD, LOUD)
    talk.send(type="response.create")
    told = [json.loads(message) for message in talk.wire.goodbye(CloseReason[reason], "it is over")]
    assert kinds(told)[-4:] == ["response.done", "response.created", "response.done", "error"]
    assert told[-1]["error"]["message"] == "it is over"
    assert told[-1]["error"]["type"] == kind


def test_ten_thousand_mutated_messages():
    """Nothing is raised, everything is answered, and the agent is still heard."""
    talk = Talk()
    errors = Counter()
    for number, text in enumerate(mutated(MESSAGES, 10_000)):
        for action in talk.wire.receive(text):
            if isinstance(action, Reply):
                message = json.loads(action.message)
                errors[message.get("error", {}).get("code")] += 1
        if number % 100 == 0:
            talk.speak(" still")
    assert len(errors) > 5
    assert kinds(talk.speak(" here"))[-1] == "response.done"
    assert len(of(talk.told, "response.done")) >= 100
