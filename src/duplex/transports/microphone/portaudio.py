"""The devices of this machine, by PortAudio: two callback streams, one each way.

A stream both ways at once is not used: under PulseAudio one that starves stops without a word.
"""

import contextlib
import ctypes
import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.errors import AudioDeviceError
from duplex.extras import require
from duplex.transports.microphone.devices import AudioDevice, Direction
from duplex.transports.microphone.listing import listed_anew
from duplex.transports.microphone.moves import Moves
from duplex.transports.microphone.sound_server import ALIASES, chosen_device, server_devices
from duplex.transports.microphone.streams import CaptureBuffer, PlaybackBuffer

__all__ = ["PortAudio", "list_devices"]

Float32 = NDArray[np.float32]
logger: logging.Logger = logging.getLogger(__name__)

BLOCK_SECONDS: dict[Direction, float] = {"input": 0.01, "output": 0.01}
"""Of one callback. With 20 ms a sound server gives a frame's last sample up to 10 ms later."""
LATENCY: dict[Direction, float] = {"input": 0.01, "output": 0.04}
"""What is asked of a device; one that is slower by default gets what it wants."""
DEAD_SECONDS = 0.8
"""Without a callback for so long, a device is gone: some say nothing when they go."""
FIRST_SECONDS = 3.0
"""So long the first callback may take: some devices wake up slowly."""

_lock = threading.RLock()
_open_streams = 0


def list_devices() -> list[AudioDevice]:
    """Return the audio devices of this machine: the sound server's where there is one, and the system's own.

    :raises MissingDependencyError: if sounddevice, or the PortAudio library under it, is not installed
    """
    system = PortAudio()
    system.refresh()
    return list(system.devices())


class PortAudio:
    """Lists and opens the devices of this machine.

    :raises MissingDependencyError: if sounddevice, or the PortAudio library under it, is not installed
    """

    def __init__(self) -> None:
        require("talk", "sounddevice", purpose="the microphone")
        try:
            import sounddevice  # pyright: ignore[reportMissingTypeStubs]  # noqa: PLC0415 -- of the extra `talk`
        except OSError as error:
            raise AudioDeviceError(
                f"sounddevice finds no PortAudio ({error}); install it (Debian: apt-get install libportaudio2)"
            ) from None
        self._library = cast("Any", sounddevice)
        self._lines: dict[Direction, PortAudioLine] = {}
        self._moves: Moves | None = None
        _silence_alsa()

    def now(self) -> float:
        """Return the monotonic clock's time in seconds."""
        return time.monotonic()

    def refresh(self) -> None:
        """Look anew which devices there are. While another conversation has a stream open, nothing is done."""
        with _lock:
            if not _open_streams:  # PortAudio lists devices when it is initialized, and only then
                self._library._terminate()  # noqa: SLF001 -- sounddevice documents these two
                self._library._initialize()  # noqa: SLF001

    def devices(self) -> Sequence[AudioDevice]:
        """Return the sound server's devices, and then those of the system that do not lead to it."""
        own = self._system_devices()
        server = server_devices(len(own)) if any(device.name in ALIASES for device in own) else []
        if not server:
            return own
        return [*server, *(device for device in own if device.name not in ALIASES)]

    def open_capture(self, device: AudioDevice) -> tuple[CaptureBuffer, "PortAudioLine"]:
        """Open a microphone.

        :raises AudioDeviceError: if that fails
        """
        buffer = CaptureBuffer(device.sample_rate, min(device.inputs, 2))
        line = self._lines["input"] = PortAudioLine(device, self._closed)

        def callback(block: Float32, count: int, times: Any, _status: Any) -> None:
            line.called_at = now = time.monotonic()
            since = times.currentTime - times.inputBufferAdcTime if times.inputBufferAdcTime else count / buffer.rate
            buffer.callback(block, now - since)

        line.stream = self._open("InputStream", device, "input", buffer.channels, callback)
        return buffer, line

    def open_playback(self, device: AudioDevice) -> tuple[PlaybackBuffer, "PortAudioLine"]:
        """Open a loudspeaker.

        :raises AudioDeviceError: if that fails
        """
        buffer = PlaybackBuffer(device.sample_rate, min(device.outputs, 2))
        line = self._lines["output"] = PortAudioLine(device, self._closed)

        def callback(block: Float32, _count: int, times: Any, _status: Any) -> None:
            line.called_at = now = time.monotonic()
            until = times.outputBufferDacTime - times.currentTime if times.outputBufferDacTime else LATENCY["output"]
            buffer.callback(block, now + until)

        line.stream = self._open("OutputStream", device, "output", buffer.channels, callback)
        return buffer, line

    def _open(
        self, kind: str, device: AudioDevice, direction: Direction, channels: int, callback: Callable[..., None]
    ) -> Any:
        number, slowest = self._address(device, direction)
        global _open_streams  # noqa: PLW0603 -- PortAudio itself is one for the process
        with _lock, chosen_device(device, direction):
            try:
                stream = getattr(self._library, kind)(
                    device=number,
                    channels=channels,
                    samplerate=device.sample_rate,
                    dtype="float32",
                    blocksize=round(BLOCK_SECONDS[direction] * device.sample_rate),
                    latency=max(LATENCY[direction], slowest),
                    callback=callback,
                )
                _start(stream)
            except (self._library.PortAudioError, ValueError) as error:
                raise _failure(device, direction, error) from None
            _open_streams += 1
        if device.server_name and self._moves is None:
            self._listen_for_moves()
        return stream

    def _listen_for_moves(self) -> None:
        """Listen to the sound server; without it a stream goes on that is moved, under the name it had."""
        moves = Moves(self._moved)
        try:
            moves.start()
        except (OSError, RuntimeError) as error:  # no descriptor, process or thread is left
            logger.warning("the sound server is not listened to: %s", error)
        else:
            self._moves = moves

    def _moved(self, direction: Direction, number: int, found: Mapping[int, AudioDevice]) -> None:
        """Take what the sound server says of a stream that is open; its rate stays what it was opened with.

        Where a microphone goes and there is no other, the server moves the stream to what a loudspeaker plays: that is
        no microphone, unless the user has moved it there while the microphone was still to be had.
        """
        line, now = self._lines.get(direction), found[number]
        if line is None or not line.device.server_name:
            return
        was = line.device.server_name
        is_gone = was not in {device.server_name for device in found.values()}
        if now.is_monitor and is_gone:
            line.is_lost = True
        elif now.server_name != was:
            line.moved_from = line.device.name if is_gone else ""
            line.device = attrs.evolve(line.device, name=now.name, server_name=now.server_name)

    def _closed(self) -> None:
        """Listen to the sound server no more when no stream is open."""
        if all(line.stream is None for line in self._lines.values()) and self._moves is not None:
            moves, self._moves = self._moves, None
            moves.close()

    def _address(self, device: AudioDevice, direction: Direction) -> tuple[int, float]:
        """Return PortAudio's number of a device, and the latency that it has by default."""
        wanted = [device.name] if not device.server_name else list(ALIASES)
        for name in wanted:
            for entry in self._library.query_devices():
                if entry["name"] == name and entry[f"max_{direction}_channels"]:
                    return int(entry["index"]), float(entry[f"default_low_{direction}_latency"])
        raise AudioDeviceError(f"{device.name} is no longer there; choose another {direction} device")

    def _system_devices(self) -> list[AudioDevice]:
        with _lock:
            listed = listed_anew() if _open_streams else None  # PortAudio's own list is as old as its streams
            (default_input, default_output), found = listed or (
                self._library.default.device,
                self._library.query_devices(),
            )
            return [
                AudioDevice(
                    index=int(entry["index"]),
                    name=str(entry["name"]),
                    inputs=int(entry["max_input_channels"]),
                    outputs=int(entry["max_output_channels"]),
                    sample_rate=float(entry["default_samplerate"]),
                    is_default_input=entry["index"] == default_input,
                    is_default_output=entry["index"] == default_output,
                )
                for entry in found
            ]


class PortAudioLine:
    """An open stream of PortAudio."""

    def __init__(self, device: AudioDevice, closed: Callable[[], None]) -> None:
        self.device: AudioDevice = device
        """Where it is: the sound server may move it."""
        self.moved_from: str = ""
        self.is_lost: bool = False
        """Whether the sound server has no such device any more, though the stream goes on."""
        self._closed = closed
        self.stream: Any = None
        self.called_at: float = time.monotonic() + FIRST_SECONDS

    def is_alive(self) -> bool:
        """Whether the callback is still being called."""
        is_called = time.monotonic() - self.called_at < DEAD_SECONDS
        return not self.is_lost and bool(self.stream.active) and is_called

    def close(self) -> None:
        """Stop at once, whatever has become of the device. Calling it twice is harmless."""
        global _open_streams  # noqa: PLW0603
        stream, self.stream = self.stream, None
        if stream is not None:
            with _lock:
                stream.abort(ignore_errors=True)
                stream.close(ignore_errors=True)
                _open_streams -= 1
            self._closed()


_AlsaHandler = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p)
_ignore = _AlsaHandler(lambda *_: None)


def _silence_alsa() -> None:
    """Keep ALSA from writing into the terminal, whatever is on it: what matters comes as an error."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL("libasound.so.2").snd_lib_error_set_handler(_ignore)


def _start(stream: Any) -> None:
    """Start a stream; one that does not start is closed, as nobody else has it."""
    try:
        stream.start()
    except BaseException:
        stream.close(ignore_errors=True)
        raise


def _failure(device: AudioDevice, direction: Direction, error: Exception) -> AudioDeviceError:
    """Say what to do about a device that does not open."""
    what = "microphone" if direction == "input" else "loudspeaker"
    reason = " ".join(str(error).split())
    if any(word in reason.lower() for word in ("denied", "permission", "not permitted", "access")):
        return AudioDeviceError(
            f"the system refuses the {what} {device.name!r} ({reason}); allow this program to use it in the system's "
            "privacy settings (Linux: join the group audio)"
        )
    return AudioDeviceError(
        f"the {what} {device.name!r} does not open ({reason}); close what else uses it, or choose another"
    )
