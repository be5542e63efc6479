"""The surface of the package, and what importing it costs."""

import subprocess
import sys

import attrs
import pytest

import duplex
from duplex import errors, events

CONTRACT = {
    "AgentAudio",
    "AgentSpeechStarted",
    "AgentSpeechStopped",
    "AgentText",
    "Codec",
    "CodecSpec",
    "CodecStream",
    "Conversation",
    "EndReason",
    "Event",
    "FileTransport",
    "Frame",
    "FrameModel",
    "Lag",
    "MemoryTransport",
    "Model",
    "ModelSpec",
    "Recorder",
    "RemoteConversation",
    "SessionEnded",
    "SessionOptions",
    "SessionStarted",
    "SessionState",
    "StepResult",
    "Transport",
    "Usage",
    "UserSpeechStarted",
    "UserSpeechStopped",
    "VoiceActivity",
    "__version__",
    "load",
    "load_async",
    "load_codec",
    "connect",
}


PACKAGES = {"bench", "process", "server", "testing", "training"}


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
