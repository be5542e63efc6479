"""Implementations of :class:`duplex.transport.Transport`, and building blocks for yours.

- :class:`FileTransport` reads a recording of nearly any format and writes the agent's voice to a wav file.
- :class:`MemoryTransport` takes arrays, for tests, for embedding, and for pushing audio by hand.
- :class:`ResampledReceiver`, :class:`PacedSender` and :class:`Pacer` convert sample rates and keep the clock's pace.
"""

from duplex.transports.files import AUDIO_SUFFIXES, FileTransport, probe_duration
from duplex.transports.memory import MemoryTransport
from duplex.transports.streams import PacedSender, Pacer, ResampledReceiver

__all__ = [
    "AUDIO_SUFFIXES",
    "FileTransport",
    "MemoryTransport",
    "PacedSender",
    "Pacer",
    "ResampledReceiver",
    "probe_duration",
]
