"""The microphone and the loudspeaker of this machine: capture, playback, clocks, and echo cancellation."""

from duplex.transports.microphone.devices import AudioDevice
from duplex.transports.microphone.echo import EchoCancellation, EchoCanceller
from duplex.transports.microphone.meters import MicrophoneStats
from duplex.transports.microphone.portaudio import list_devices
from duplex.transports.microphone.streams import SoundSystem
from duplex.transports.microphone.transport import MicrophoneTransport

__all__ = [
    "AudioDevice",
    "EchoCancellation",
    "EchoCanceller",
    "MicrophoneStats",
    "MicrophoneTransport",
    "SoundSystem",
    "list_devices",
]
