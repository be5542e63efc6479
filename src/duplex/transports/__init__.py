"""Where conversations' audio comes from and goes to; each implements :class:`duplex.transport.Transport`.

- :class:`FileTransport` reads a recording of nearly any format and writes the agent's voice to a wav file.
- :class:`MemoryTransport` takes arrays, for tests, for embedding, and for pushing audio by hand.
"""

from duplex.transports.files import AUDIO_SUFFIXES, FileTransport, probe_duration
from duplex.transports.memory import MemoryTransport

__all__ = ["AUDIO_SUFFIXES", "FileTransport", "MemoryTransport", "probe_duration"]
