"""The two streams of a conversation: opened, watched, and opened anew when a device is gone."""

import threading

from duplex.audio.pcm import SILENCE_DBFS
from duplex.errors import AudioDeviceError
from duplex.transports.microphone.devices import AudioDevice, Direction, choose_device
from duplex.transports.microphone.line import Line
from duplex.transports.microphone.meters import MicrophoneStats
from duplex.transports.microphone.streams import AudioLine, PlaybackBuffer, SoundSystem

__all__ = ["Hardware"]


class Hardware:
    """A microphone and a loudspeaker. :meth:`open`, :meth:`reopen` and :meth:`close` wait, and belong into threads."""

    def __init__(self, system: SoundSystem, microphone: int | str | None, loudspeaker: int | str | None) -> None:
        self._system = system
        self._wanted: dict[Direction, int | str | None] = {"input": microphone, "output": loudspeaker}
        self._names: dict[Direction, str] = {}
        self._lines: dict[Direction, AudioLine] = {}
        self._playback: PlaybackBuffer | None = None
        self._closed = False
        self._lock = threading.Lock()
        self.gone: str = ""
        """Name of the device that was last found gone."""

    def now(self) -> float:
        """Return the time of the devices' clock."""
        return self._system.now()

    def open(self, line: Line) -> None:
        """Open the devices that were chosen.

        :raises AudioDeviceError: if one is not there or does not open
        """
        with self._lock:
            self._system.refresh()
            devices = self._system.devices()
            chosen: dict[Direction, AudioDevice] = {
                direction: choose_device(devices, self._wanted[direction], direction) for direction in _BOTH
            }
            self._names.update({direction: chosen[direction].name for direction in _BOTH})
            self._connect(line, chosen)

    def reopen(self, line: Line) -> None:
        """Open the same devices again, or the default ones where they are gone.

        :raises AudioDeviceError: if there is none
        """
        with self._lock:
            self._close_lines()
            self._system.refresh()
            devices = self._system.devices()
            chosen: dict[Direction, AudioDevice] = {}
            for direction in _BOTH:
                wanted = None if self._wanted[direction] is None else self._names[direction]
                try:  # by its name: numbers change when devices come and go
                    chosen[direction] = choose_device(devices, wanted, direction)
                except AudioDeviceError:
                    chosen[direction] = choose_device(devices, None, direction)
            self._connect(line, chosen)

    def is_alive(self) -> bool:
        """Whether both streams run; ``gone`` tells which does not."""
        for line in list(self._lines.values()):
            if not line.is_alive():
                self.gone = line.device.name
                return False
        return bool(self._lines)

    @property
    def names(self) -> tuple[str, str]:
        """Of the input and the output that are open; empty for one that is not."""
        lines = self._lines
        return (
            lines["input"].device.name if "input" in lines else "",
            lines["output"].device.name if "output" in lines else "",
        )

    @property
    def moved_from(self) -> str:
        """Name of a device that is gone, and whose stream the system has moved; empty otherwise."""
        return next((line.moved_from for line in list(self._lines.values()) if line.moved_from), "")

    def plays(self) -> bool:
        """Whether something that was sent has not been heard."""
        playback = self._playback
        return playback is not None and (playback.ring.filled > 0 or self.now() < playback.last_sound)

    def close(self) -> None:
        """Close both streams for good. Calling it twice is harmless."""
        with self._lock:
            self._closed = True
            self._close_lines()

    def stats(self, line: Line | None) -> MicrophoneStats:
        """Return what is known at this moment."""
        lines, jitter = self._lines, line.jitter if line else None
        devices = {direction: each.device for direction, each in lines.items()}
        near = line.near_clock if line else None
        return MicrophoneStats(
            input_device=devices["input"].name if "input" in devices else "",
            output_device=devices["output"].name if "output" in devices else "",
            input_rate=devices["input"].sample_rate if "input" in devices else 0.0,
            output_rate=devices["output"].sample_rate if "output" in devices else 0.0,
            input_level=line.input_meter.level if line else SILENCE_DBFS,
            output_level=line.output_meter.level if line else SILENCE_DBFS,
            clipped=line is not None and line.watch.clipped,
            silent_seconds=line.watch.silent_seconds if line else 0.0,
            buffered_seconds=jitter.seconds if jitter else 0.0,
            drift_ppm=near.drift_ppm if near else 0.0,
            correction=jitter.correction if jitter else 0.0,
            underruns=line.underruns if line else 0,
            overruns=line.overruns if line else 0,
            echo_reduction=line.echo.reduction if line else None,
        )

    def _connect(self, line: Line, chosen: dict[Direction, AudioDevice]) -> None:
        if self._closed:
            return
        try:
            playback, self._lines["output"] = self._system.open_playback(chosen["output"])
            capture, self._lines["input"] = self._system.open_capture(chosen["input"])
        except AudioDeviceError:
            self._close_lines()
            raise
        self._playback = playback
        line.connect(capture, playback)

    def _close_lines(self) -> None:
        lines, self._lines = self._lines, {}
        self._playback = None
        for line in lines.values():
            line.close()


_BOTH: tuple[Direction, Direction] = ("input", "output")
