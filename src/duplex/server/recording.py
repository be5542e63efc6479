"""Recordings of conversations, written while they go on and readable at any moment, also after a crash.

::

    <folder>/<time>-<number>/dialogue.wav    stereo 16 bit, user left, agent right, on one time line
    <folder>/<time>-<number>/events.jsonl    every event but audio, one JSON object a line

A disk that refuses ends the recording, never the conversation.
"""

import json
import logging
import secrets
import struct
import threading
import time
from collections import deque
from pathlib import Path

import anyio
import numpy as np
from anyio.to_thread import run_sync

from duplex.audio import to_int16
from duplex.events import Event, as_record
from duplex.frame_model import Frame, ModelSpec
from duplex.server.metrics import Metrics

__all__ = ["Recording"]

log = logging.getLogger(__name__)

SECONDS_BETWEEN = 1.0
"""Between two writes: what a crash may cost."""
MOST_WAITING = 60.0
"""Seconds of sound that may wait for a disk that does not answer."""
LAST_SECONDS = 10.0
"""That the last write may take."""
_CHANNELS = 2
_SAMPLE_BYTES = 2
_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")
_AFTER_RIFF = _HEADER.size - 8
_MOST_BYTES = 2**32 - 2**20
"""A wav file counts its bytes in 32 bits; 12 hours."""


class Recording:
    """The recorder of one conversation. :meth:`record` and :meth:`tell` only remember; :meth:`run` writes."""

    def __init__(self, folder: Path, spec: ModelSpec, metrics: Metrics) -> None:
        self.path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}"
        self._spec = spec
        self._metrics = metrics
        self._frames: list[Frame] = []
        self._lines: list[str] = []
        self._taken: deque[tuple[list[Frame], list[str]]] = deque()
        self._writing = threading.Lock()
        self._lost = False

    def record(self, frame: Frame) -> None:
        """Take a time step."""
        if not self._lost:
            self._frames.append(frame)
            if self._spec.seconds(len(self._frames)) > MOST_WAITING:
                self._lose("the disk does not answer")

    def tell(self, event: Event) -> None:
        """Take an event."""
        if not self._lost:
            self._lines.append(json.dumps(as_record(event), ensure_ascii=False) + "\n")

    async def run(self) -> None:
        """Write every second, until cancelled; then write the rest."""
        try:
            while not self._lost:
                await self._flush()
                await anyio.sleep(SECONDS_BETWEEN)
        finally:
            with anyio.move_on_after(LAST_SECONDS, shield=True) as patience:
                await self._flush()
            if patience.cancelled_caught:
                self._lose("the disk does not answer")

    async def _flush(self) -> None:
        self._taken.append((self._frames, self._lines))
        self._frames, self._lines = [], []
        # A thread that is abandoned, because the call ends or the disk hangs, writes on.
        await run_sync(self._write_taken, abandon_on_cancel=True)

    def _write_taken(self) -> None:
        with self._writing:
            while self._taken and not self._lost:
                try:
                    self._write(*self._taken.popleft())
                except OSError as error:
                    self._lose(error.strerror or str(error))

    def _write(self, frames: list[Frame], lines: list[str]) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)  # what people say is nobody else's
        if lines:
            with (self.path / "events.jsonl").open("a", encoding="utf-8") as file:
                file.writelines(lines)
        if frames:
            self._append(frames)

    def _lose(self, reason: str) -> None:
        """End the recording, in any thread."""
        if not self._lost:
            self._lost = True
            self._frames, self._lines = [], []
            self._taken.clear()
            self._metrics.lost_recordings.inc()
            log.error("recording %s ended: %s; the conversation goes on", self.path, reason)

    def _append(self, frames: list[Frame]) -> None:
        """Add to the wav file, then tell its new length in its header: it is whole again after each call."""
        path = self.path / "dialogue.wav"
        with path.open("r+b" if path.exists() else "w+b") as file:
            for frame in frames:
                sound = self._stereo(frame)
                start = _HEADER.size + round(frame.at * self._spec.sample_rate) * _CHANNELS * _SAMPLE_BYTES
                if start + len(sound) > _MOST_BYTES:
                    raise OSError(f"{path} is as long as a wav file can be")
                file.seek(start)  # what is left out reads as zeros, however long
                file.write(sound)
            data = file.tell() - _HEADER.size
            file.seek(0)
            file.write(self._header(data))

    @staticmethod
    def _stereo(frame: Frame) -> bytes:
        agent = np.zeros_like(frame.user_pcm) if frame.agent_pcm is None else frame.agent_pcm
        return to_int16(np.stack([frame.user_pcm, agent], axis=1)).astype("<i2").tobytes()

    def _header(self, data: int) -> bytes:
        rate, block = self._spec.sample_rate, _CHANNELS * _SAMPLE_BYTES
        return _HEADER.pack(
            *(b"RIFF", _AFTER_RIFF + data, b"WAVE", b"fmt ", 16, 1, _CHANNELS),
            *(rate, rate * block, block, 8 * _SAMPLE_BYTES, b"data", data),
        )
