"""A room of one clock: what is spoken into it and what the loudspeaker plays are two channels of one recording."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import soxr
from numpy.typing import NDArray

import duplex

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "transports"))
from sound_server_support import SoundServer

__all__ = ["RATE", "OneClock", "Recording", "first_sound", "last_sound", "place", "read", "torn"]

Samples = NDArray[np.floating[Any]]
RATE = 48000
AUDIBLE = 0.0056
"""Of full scale, -45 dBFS."""
# One null sink has both: its left channel is the room, in which the user speaks, and its right one the loudspeaker.
MODULES = """
load-module module-null-sink sink_name=world norewinds=1 rate=48000 channels=2 channel_map=front-left,front-right
load-module module-remap-sink sink_name=room master=world channels=1 channel_map=mono \
master_channel_map=front-left remix=no
load-module module-remap-sink sink_name=loudspeaker master=world channels=1 channel_map=mono \
master_channel_map=front-right remix=no sink_properties=device.description=Loudspeaker
load-module module-remap-source source_name=microphone master=world.monitor channels=1 channel_map=mono \
master_channel_map=front-left remix=no source_properties=device.description=Microphone
load-module module-native-protocol-unix auth-anonymous=1 socket={socket}
set-default-sink loudspeaker
set-default-source microphone
"""


def first_sound(pcm: Samples, after: int, rate: int) -> int | None:
    """Return the first audible sample from an index on: of the first 10 ms that are audible as a whole."""
    size = rate // 100
    rest = pcm[after : after + (pcm.size - after) // size * size].reshape(-1, size)
    loud = np.flatnonzero(np.sqrt(np.mean(rest**2, axis=1)) > AUDIBLE)
    if not loud.size:
        return None
    start = after + loud[0] * size
    return int(start + np.flatnonzero(np.abs(pcm[start : start + size]) > AUDIBLE)[0])


def last_sound(pcm: Samples) -> int:
    """Return the last audible sample."""
    return int(np.flatnonzero(np.abs(pcm) > AUDIBLE)[-1])


def place(needle: Samples, hay: Samples) -> int:
    """Return where in a recording another begins."""
    size = 1 << (needle.size + hay.size).bit_length()
    products = np.fft.irfft(np.fft.rfft(hay, size) * np.conj(np.fft.rfft(needle, size)), size)
    return int(np.argmax(np.abs(products[: hay.size])))


def torn(pcm: Samples) -> float:
    """Return seconds of exact zeros between sounds: what a player that had nothing to play has put there."""
    zero = np.concatenate([[0], (pcm == 0).astype(int), [0]])
    begins, ends = np.flatnonzero(np.diff(zero) == 1), np.flatnonzero(np.diff(zero) == -1)
    return float(sum(size for size in ends - begins if size >= RATE // 200)) / RATE


async def read(path: str, rate: int) -> Samples:
    """Return a recording at a rate."""
    transport, pieces = duplex.FileTransport(path), []
    await transport.start(rate)
    try:
        while True:
            pieces.append(await transport.receive())
    except anyio.EndOfStream:
        return np.concatenate(pieces)
    finally:
        await transport.aclose()


class Recording:
    """What was heard in a room, and when."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._read: list[tuple[int, float]] = []

    def add(self, data: bytes) -> None:
        """Take what has arrived now."""
        self._data += data
        self._read.append((len(self._data) // 8, time.monotonic()))

    @property
    def channels(self) -> tuple[Samples, Samples]:
        """What was spoken, and what was played, float32 ``[samples]`` at 48 kHz."""
        both = np.frombuffer(bytes(self._data[: len(self._data) // 8 * 8]), "<f4").reshape(-1, 2)
        return both[:, 0], both[:, 1]

    def time(self, sample: int) -> float:
        """Return the monotonic time at which the sound server has given a sample: of the blocks, the most punctual."""
        near = [when - count / RATE for count, when in self._read if abs(count - sample) < 2 * RATE]
        return min(near) + sample / RATE


class OneClock(SoundServer):
    """A PulseAudio with such a room."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (folder / "modules.pa").write_text(MODULES.format(socket=self.socket))

    @contextmanager
    def heard(self) -> Generator[Recording]:
        """Record both channels during a block."""
        recording = Recording()
        command = [shutil.which("parec") or "parec", "--raw", "--device=world.monitor", "--format=float32le"]
        command += ["--channels=2", "--channel-map=front-left,front-right", "--rate=48000", "--latency-msec=5"]
        pipe, end = os.pipe()
        recorder = subprocess.Popen(command, env={**os.environ, **self.environment}, stdout=end)
        os.close(end)

        def read() -> None:
            while data := os.read(pipe, 65536):
                recording.add(data)

        reader = threading.Thread(target=read)
        reader.start()
        try:
            yield recording
        finally:
            recorder.terminate()
            reader.join()
            recorder.wait()
            os.close(pipe)

    @staticmethod
    def at_its_rate(pcm: Samples, rate: int) -> Samples:
        """Return a recording at the room's rate."""
        return soxr.resample(pcm, rate, RATE)
