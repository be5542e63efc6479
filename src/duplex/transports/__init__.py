"""Implementations of :class:`duplex.transport.Transport`, and building blocks for yours.

- :class:`FileTransport` reads a recording of nearly any format and writes the agent's voice to a wav file.
- :class:`MemoryTransport` takes arrays, for tests, for embedding, and for pushing audio by hand.
- :class:`MicrophoneTransport` is the microphone and the loudspeaker of this machine; :func:`list_devices` lists them.
- :class:`ResampledReceiver`, :class:`PacedSender` and :class:`Pacer` convert sample rates and keep the clock's pace.
"""

from duplex.transports.files import AUDIO_SUFFIXES, FileTransport, probe_duration
from duplex.transports.memory import MemoryTransport
from duplex.transports.microphone import (
    AudioDevice,
    EchoCancellation,
    MicrophoneStats,
    MicrophoneTransport,
    list_devices,
)
from duplex.transports.streams import PacedSender, Pacer, ResampledReceiver

__all__ = [
    "AUDIO_SUFFIXES",
    "AudioDevice",
    "EchoCancellation",
    "FileTransport",
    "MemoryTransport",
    "MicrophoneStats",
    "MicrophoneTransport",
    "PacedSender",
    "Pacer",
    "ResampledReceiver",
    "list_devices",
    "probe_duration",
]
