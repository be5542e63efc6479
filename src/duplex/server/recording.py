"""Recordings of conversations, written while they go on and readable at any moment, also after a crash.

::

    <folder>/<time>-<number>/dialogue.wav    stereo 16 bit, user left, agent right, on one time line
    <folder>/<time>-<number>/events.jsonl    every event but audio, one JSON object a line
    <folder>/<time>-<number>/call.json       whose call it is; when it began and, once it has, ended

A disk that refuses, or does not answer, ends the recording, never the conversation.
"""

import json
import logging
import os
import secrets
import struct
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path

import anyio
import numpy as np

from duplex.atomic import atomic_write_bytes
from duplex.audio.pcm import to_int16
from duplex.audio.synthetic_mark import mark_chunk
from duplex.conversation.local import Recorder
from duplex.engine.workers import Workers
from duplex.errors import OutputError
from duplex.events import Event, JsonValue
from duplex.frame_model import Frame, ModelSpec
from duplex.server.metrics import Metrics
from duplex.server.recordings import ABOUT, MOMENT

__all__ = ["Recorders", "RecordingWriter"]

log: logging.Logger = logging.getLogger(__name__)

SECONDS_BETWEEN = 1.0
"""Between two writes: what a crash may cost."""
MAX_SECONDS = 60.0
"""That a disk may take to answer; what is said meanwhile waits in memory."""
LAST_SECONDS = 10.0
"""That the last write may take."""
_CHANNELS = 2
_SAMPLE_BYTES = 2
_FORMAT = struct.Struct("<4sI4s4sIHHIIHH")
_DATA = struct.Struct("<4sI")
_RIFF_HEAD = 8
_MAX_WAV_BYTES = 2**32 - 2**20
"""A wav file counts its bytes in 32 bits; 12 hours."""


class Recorders:
    """A recorder that is several; none of them is left out."""

    def __init__(self, *recorders: Recorder | None) -> None:
        self._recorders = [each for each in recorders if each is not None]

    def record(self, frame: Frame) -> None:
        """Take a time step."""
        for each in self._recorders:
            each.record(frame)


class RecordingWriter:
    """Writes one conversation to a folder. :meth:`record` and :meth:`record_event` only queue; :meth:`run` writes.

    ``writers`` is the one thread that writes all recordings.
    """

    def __init__(self, folder: Path, spec: ModelSpec, metrics: Metrics, writers: Workers) -> None:
        self.path: Path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}"
        self._spec = spec
        self._mark = mark_chunk("right") if spec.agent_streams else b""
        self._head = _FORMAT.size + len(self._mark) + _DATA.size
        """Bytes before the sound. The mark is among them: a file that grows has no end to put it at."""
        self._metrics = metrics
        self._writers = writers
        self._frames: list[Frame] = []
        self._lines: list[str] = []
        self._taken: deque[tuple[list[Frame], list[str]]] = deque()
        self._about: dict[str, JsonValue] = {}
        self._about_written = self._about
        self._refused: str | None = None
        """What the disk said."""
        self._lost: str | None = None
        """Why nothing more is written."""

    def record(self, frame: Frame) -> None:
        """Take a time step."""
        if self._lost is None:
            self._frames.append(frame)

    def record_event(self, event: Event) -> None:
        """Take an event."""
        if self._lost is None:
            self._lines.append(json.dumps(event.as_dict(), ensure_ascii=False) + "\n")

    def describe(self, about: Mapping[str, JsonValue]) -> None:
        """Say whose call it is that begins, and what else is known of it."""
        self._about = {**about, "began": _moment(), "ended": None}

    async def run(self) -> None:
        """Write every second, until cancelled; then write the rest."""
        try:
            while self._lost is None:
                await self._flush(MAX_SECONDS)
                await anyio.sleep(SECONDS_BETWEEN)
        finally:
            if self._lost is None:
                if self._about:
                    self._about = {**self._about, "ended": _moment()}
                with anyio.CancelScope(shield=True):
                    await self._flush(LAST_SECONDS)

    async def _flush(self, seconds: float) -> None:
        """Have what was gathered written, within so many seconds; what is taken out is, also when the call ends."""
        self._taken.append((self._frames, self._lines))
        self._frames, self._lines = [], []
        with anyio.move_on_after(seconds) as patience:
            await self._writers.run(self._write_taken, self._taken)
        self._lost = self._refused or ("the disk does not answer" if patience.cancelled_caught else None)
        if self._lost is not None:
            self._frames, self._lines = [], []
            self._metrics.lost_recordings.inc()
            log.error("recording %s is incomplete: %s", self.path, self._lost)

    def _write_taken(self, taken: deque[tuple[list[Frame], list[str]]]) -> None:
        """Write, in the writers' thread."""
        while taken and self._refused is None:
            try:
                self._write(*taken.popleft())
            except OSError as error:
                self._refused = error.strerror or str(error)
            except OutputError as error:
                self._refused = str(error)

    def _write(self, frames: list[Frame], lines: list[str]) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)  # what people say is nobody else's
        if lines:
            with (self.path / "events.jsonl").open("a", encoding="utf-8", errors="replace") as file:
                file.writelines(lines)
        if frames:
            self._append(frames)
        if self._about is not self._about_written:
            self._about_written = about = self._about
            text = json.dumps(about, ensure_ascii=False, indent=2) + "\n"
            atomic_write_bytes(self.path / ABOUT, text.encode(errors="replace"))
        elif self._about and not (lines or frames):
            os.utime(self.path / ABOUT)  # a call that stands still is not one that has crashed

    def _append(self, frames: list[Frame]) -> None:
        """Add to the wav file, then tell its new length in its header: it is whole again after each call."""
        path = self.path / "dialogue.wav"
        with path.open("r+b" if path.exists() else "w+b") as file:
            for frame in frames:
                sound = self._stereo(frame)
                start = self._head + round(frame.at * self._spec.sample_rate) * _CHANNELS * _SAMPLE_BYTES
                if start + len(sound) > _MAX_WAV_BYTES:
                    raise OSError(f"{path} is as long as a wav file can be")
                file.seek(start)  # what is left out reads as zeros, however long
                file.write(sound)
            data = file.tell() - self._head
            file.seek(0)
            file.write(self._header(data))

    @staticmethod
    def _stereo(frame: Frame) -> bytes:
        agent = np.zeros_like(frame.user_pcm) if frame.agent_pcm is None else frame.agent_pcm
        return to_int16(np.stack([frame.user_pcm, agent], axis=1)).astype("<i2").tobytes()

    def _header(self, data: int) -> bytes:
        rate, block = self._spec.sample_rate, _CHANNELS * _SAMPLE_BYTES
        described = _FORMAT.pack(
            *(b"RIFF", self._head - _RIFF_HEAD + data, b"WAVE", b"fmt ", 16, 1, _CHANNELS),
            *(rate, rate * block, block, 8 * _SAMPLE_BYTES),
        )
        return described + self._mark + _DATA.pack(b"data", data)


def _moment() -> str:
    return time.strftime(MOMENT, time.gmtime())
