"""A deterministic sound system: devices with clocks, rates and times of their own, which hear functions of time."""

import math
import time

import attrs
import numpy as np

from duplex import AudioDevice, AudioDeviceError, MicrophoneTransport
from duplex.transports.microphone.streams import CaptureBuffer, PlaybackBuffer

RATE = 24000
BLOCK = 0.01


def silence(times):
    return np.zeros(times.shape)


def tone(frequency=440.0, level=0.3):
    return lambda times: level * np.sin(2 * math.pi * frequency * times)


def devices(rate=48000.0, channels=1, name="built-in"):
    return [
        AudioDevice(
            index=0, name=f"{name} microphone", inputs=channels, outputs=0, sample_rate=rate, is_default_input=True
        ),
        AudioDevice(
            index=1, name=f"{name} loudspeaker", inputs=0, outputs=channels, sample_rate=rate, is_default_output=True
        ),
    ]


@attrs.define(eq=False)
class FakeLine:
    """A stream whose callback is called when the system's time has passed."""

    system: "FakeSound"
    device: AudioDevice
    buffer: CaptureBuffer | PlaybackBuffer
    captures: bool
    began: float
    samples: int = 0
    closed: bool = False
    moved_from: str = ""

    @property
    def clock_rate(self):
        return self.device.sample_rate * (1 + self.system.drift)

    def is_alive(self):
        self.pump()
        return not self.closed and self.device in self.system.present

    def close(self):
        self.closed = True

    def pump(self):
        size = round(BLOCK * self.device.sample_rate)
        while not self.closed and self.device in self.system.present:
            begin = self.began + self.samples / self.clock_rate
            if self.system.now() < begin + (size / self.clock_rate if self.captures else -self.system.latency):
                return
            (self.capture if self.captures else self.play)(begin, size)
            self.samples += size

    def capture(self, begin, size):
        times = begin + np.arange(size) / self.clock_rate
        heard = np.repeat(self.system.sound(times)[:, None], self.buffer.channels, axis=1).astype(np.float32)
        self.buffer.callback(heard, begin + self.system.jitter())

    def play(self, begin, size):
        block = np.full((size, self.buffer.channels), np.nan, np.float32)
        self.buffer.callback(block, begin + self.system.jitter())
        self.system.heard.append((begin, block[:, 0].copy()))


class FakeSound:
    """``sound(times)`` is what the microphone hears, ``heard`` what the loudspeakers have played, with the times."""

    def __init__(self, present=None, *, sound=silence, drift_ppm=0.0, jitter=0.0, latency=0.05, clock=None):
        self.present = devices() if present is None else present
        self.sound = sound
        self.drift = drift_ppm * 1e-6
        self.latency = latency
        self.heard = []
        self.lines = []
        self.time = 100.0
        self.now = clock or (lambda: self.time)
        self.failure = None
        self._random = np.random.default_rng(0)
        self._jitter = jitter

    def jitter(self):
        return self._random.normal(0, self._jitter) if self._jitter else 0.0

    def refresh(self):
        assert all(line.closed for line in self.lines), "no stream may be open when devices are looked for"

    def devices(self):
        return list(self.present)

    def open_capture(self, device):
        return self._open(device, CaptureBuffer(device.sample_rate, min(device.inputs, 2)), captures=True)

    def open_playback(self, device):
        return self._open(device, PlaybackBuffer(device.sample_rate, min(device.outputs, 2)), captures=False)

    def played(self):
        return np.concatenate([block for _, block in self.heard]) if self.heard else np.zeros(0, np.float32)

    def advance(self, seconds):
        self.time += seconds
        for line in self.lines:
            line.pump()

    def _open(self, device, buffer, *, captures):
        if self.failure is not None:
            raise AudioDeviceError(self.failure)
        line = FakeLine(self, device, buffer, captures, self.now())
        self.lines.append(line)
        return buffer, line


class Spoken(MicrophoneTransport):
    """A microphone into which somebody speaks for a second, on a clock that runs."""

    def __init__(self, sound=None, seconds=1.0, **options):
        self.system = sound or FakeSound(sound=tone(), clock=time.monotonic)
        self.left = seconds * RATE
        super().__init__(system=self.system, **options)

    async def receive(self):
        pcm = await super().receive()
        self.left -= pcm.size
        if self.left <= 0:
            self.end()
        return pcm
