"""A call without devices: a line of memory in the microphone's place."""

import numpy as np

from duplex import Conversation, MemoryTransport, MicrophoneStats, SessionOptions
from duplex.results.writer import ResultWriter
from duplex.talk.call import Call
from duplex.talk.line import TalkLine
from duplex.talk.recording import Recorder

RATE = 24000


def stats(**values):
    return MicrophoneStats(
        **{
            "input_device": "a headset",
            "output_device": "a loudspeaker",
            "input_rate": 48000.0,
            "output_rate": 48000.0,
            "input_level": -20.0,
            "output_level": -30.0,
            "clipped": False,
            "silent_seconds": 0.0,
            "buffered_seconds": 0.1,
            "drift_ppm": 0.0,
            "correction": 0.0,
            "underruns": 0,
            "overruns": 0,
            "echo_reduction": 31.2,
            **values,
        }
    )


def tone(seconds, level=0.3):
    return (level * np.sin(2 * np.pi * 300 * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


class Headset(MemoryTransport):
    """Hears what it was given, or what is fed to it, and has the statistics of a microphone."""

    def __init__(self, pcm=None, **values):
        super().__init__(pcm, realtime=pcm is None)
        self.muted = False
        self.stats = stats(**values)


def call_on(model, tmp_path, microphone, *, make=None):
    """A call of a local model on a stand-in microphone."""
    line = TalkLine(make or (lambda *_: microphone), None, None)
    recorder = Recorder(tmp_path / "calls", lambda folder: ResultWriter(folder, model.spec, model.tokenizer), {})
    options = SessionOptions(seed=3)
    return Call(lambda call: Conversation(model, call.line, options=options, recorder=call.recorder), line, recorder)
