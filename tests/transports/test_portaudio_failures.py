"""Streams of PortAudio that do not start, on a library that stands in for it: a real one fails when it likes."""

import logging
import subprocess
import sys
import threading

import attrs
import pytest

from duplex import AudioDevice, AudioDeviceError
from duplex.transports.microphone import portaudio
from duplex.transports.microphone.portaudio import PortAudio

MICROPHONE = AudioDevice(
    index=0,
    name="a microphone",
    inputs=1,
    outputs=0,
    sample_rate=48000.0,
    is_default_input=True,
    server_name="alsa_input",
)


class PortAudioError(Exception):
    """As sounddevice's."""


@attrs.define(eq=False)
class Stream:
    failure: BaseException | None
    active: bool = False
    closed: bool = False

    def start(self):
        if self.failure is not None:
            raise self.failure
        self.active = True

    def abort(self, **_):
        self.active = False

    def close(self, **_):
        self.closed = True


@attrs.define(eq=False)
class Library:
    """What is used of the module sounddevice."""

    failure: BaseException | None = None
    streams: list = attrs.field(factory=list)
    PortAudioError = PortAudioError

    def InputStream(self, **_):  # noqa: N802 -- sounddevice's
        self.streams.append(Stream(self.failure))
        return self.streams[-1]

    @staticmethod
    def query_devices():
        return [{"name": "pulse", "index": 0, "max_input_channels": 2, "default_low_input_latency": 0.01}]


@pytest.fixture
def library():
    return Library()


@pytest.fixture
def system(library, monkeypatch):
    monkeypatch.setattr(portaudio, "require", lambda *_, **__: None)
    monkeypatch.setitem(sys.modules, "sounddevice", library)
    return PortAudio()


@pytest.mark.parametrize("failure", [PortAudioError("it is busy"), KeyboardInterrupt()])
def test_a_stream_that_does_not_start_is_closed(system, library, failure):
    library.failure = failure
    with pytest.raises((AudioDeviceError, KeyboardInterrupt)):
        system.open_capture(MICROPHONE)
    assert [stream.closed for stream in library.streams] == [True]
    assert portaudio._open_streams == 0


@pytest.mark.parametrize("lacks", ["a descriptor", "a thread"])
def test_a_microphone_opens_where_the_sound_server_cannot_be_listened_to(system, library, monkeypatch, caplog, lacks):
    begun, start = [], subprocess.Popen

    def no_descriptor(*_, **__):
        raise OSError(24, "Too many open files")

    def noted(_, **options):
        begun.append(start(["sleep", "60"], **options))
        return begun[-1]

    def no_thread(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("duplex.transports.microphone.moves.shutil.which", lambda _: "pactl")
    monkeypatch.setattr(subprocess, "Popen", no_descriptor if lacks == "a descriptor" else noted)
    if lacks == "a thread":
        monkeypatch.setattr(threading.Thread, "start", no_thread)
    with caplog.at_level(logging.WARNING):
        _, line = system.open_capture(MICROPHONE)
    assert "not listened to" in caplog.text
    assert all(process.returncode is not None for process in begun)
    assert line.is_alive()
    monkeypatch.undo()
    line.close()
    assert library.streams[0].closed
    assert portaudio._open_streams == 0
