"""The surface of the package, and what importing it costs."""

import json
import subprocess
import sys
from typing import get_args

import attrs
import pytest

import duplex
from duplex import errors, events

CONTRACT = {
    "AgentAudio",
    "AgentSpeechStarted",
    "AgentSpeechStopped",
    "AgentText",
    "AudioDevice",
    "Codec",
    "CodecSpec",
    "CodecStream",
    "Conversation",
    "Dialogue",
    "EndReason",
    "Event",
    "FileTransport",
    "Frame",
    "FrameModel",
    "KeyPressed",
    "Lag",
    "MemoryTransport",
    "MicrophoneStats",
    "MicrophoneTransport",
    "Model",
    "ModelSpec",
    "Recorder",
    "RemoteConversation",
    "SessionEnded",
    "SessionOptions",
    "SessionStarted",
    "SessionState",
    "Speaker",
    "StepResult",
    "SttTranscriber",
    "Transcriber",
    "Transcription",
    "Transport",
    "Usage",
    "UserSpeechStarted",
    "UserSpeechStopped",
    "UserText",
    "VoiceActivity",
    "WhisperTranscriber",
    "Word",
    "__version__",
    "load",
    "load_async",
    "load_codec",
    "connect",
}


PACKAGES = {"bench", "measuring", "process", "scoring", "server", "testing", "training"}


def test_exported_names():
    assert set(duplex.__all__) == CONTRACT | PACKAGES | set(errors.__all__)
    assert len(duplex.__all__) == len(set(duplex.__all__))


@pytest.mark.parametrize("name", sorted(duplex.__all__))
def test_every_exported_name_is_there(name):
    assert getattr(duplex, name) is not None


def test_dir_shows_what_is_public_alone():
    assert set(dir(duplex)) == set(duplex.__all__) - {"__version__"}


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="nothing"):
        _ = duplex.nothing


def test_import_loads_no_backend():
    program = """
import sys
import duplex
for name in duplex.__all__:
    getattr(duplex, name)
import duplex.testing
heavy = {"torch", "mlx", "av", "sentencepiece", "huggingface_hub", "silero_vad", "pytest"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)


def test_errors_are_one_tree_that_the_docstring_prints():
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), errors.DuplexError)
        assert name in errors.__doc__
        assert getattr(errors, name).__doc__


def test_events_are_frozen_and_keyword_only():
    for name in events.__all__:
        kind = getattr(events, name)
        if isinstance(kind, type) and issubclass(kind, events.TimedEvent):
            assert all(attribute.kw_only for attribute in attrs.fields(kind))
            assert [attribute.name for attribute in attrs.fields(kind)][:2] == ["sequence", "at"]
            assert kind.__setattr__ is not object.__setattr__
            assert kind.__doc__


def test_record_of_an_event_has_its_type_first_and_no_audio():
    event = events.AgentAudio(sequence=4, at=0.32, pcm=None)
    assert list(event.as_dict().items()) == [("type", "AgentAudio"), ("sequence", 4), ("at", 0.32)]


def test_event_is_the_union_of_all_event_classes():
    kinds = {getattr(events, name) for name in events.__all__} - {events.TimedEvent}
    assert set(get_args(duplex.Event)) == {
        kind for kind in kinds if isinstance(kind, type) and issubclass(kind, events.TimedEvent)
    }


def test_the_place_on_the_time_line_is_rounded_to_the_microsecond():
    event = events.AgentSpeechStarted(sequence=0, at=0.1 + 0.2)
    assert event.at == 0.3
    assert attrs.evolve(event, at=26 * 0.032).at == 0.832


def test_a_dictionary_of_an_event_is_what_json_holds():
    used = events.Usage(frames=3, seconds=0.24, dropped_seconds=0.0)
    event = events.SessionEnded(sequence=9, at=3 * 0.08, reason=events.EndReason.FINISHED, usage=used)
    text = json.dumps(event.as_dict())
    assert text == (
        '{"type": "SessionEnded", "sequence": 9, "at": 0.24, "reason": "finished", '
        '"usage": {"frames": 3, "seconds": 0.24, "dropped_seconds": 0.0}}'
    )
    assert type(event.as_dict()["reason"]) is str
    assert events.event_from_dict(json.loads(text)) == event


@pytest.mark.parametrize("at", [None, "soon", 10**400])
def test_a_dictionary_that_is_no_event(at):
    assert events.event_from_dict({"type": "AgentText", "sequence": 0, "at": at, "text": "", "token": 1}) is None
