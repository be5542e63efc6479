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
import time
from pathlib import Path

import anyio
import numpy as np
from anyio.to_thread import run_sync

from duplex.audio import to_int16
from duplex.events import AgentAudio, Event, as_record
from duplex.frame_model import Frame, ModelSpec
from duplex.server.metrics import Metrics

__all__ = ["Recording"]

log = logging.getLogger(__name__)

SECONDS_BETWEEN = 1.0
"""Between two writes: what a crash may cost."""
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
        self._lost = False

    def record(self, frame: Frame) -> None:
        """Take a time step."""
        if not self._lost:
            self._frames.append(frame)

    def tell(self, event: Event) -> None:
        """Take an event."""
        if not self._lost and not isinstance(event, AgentAudio):
            self._lines.append(json.dumps(as_record(event), ensure_ascii=False) + "\n")

    async def run(self) -> None:
        """Write every second, until cancelled; then write the rest."""
        try:
            while not self._lost:
                await self._flush()
                await anyio.sleep(SECONDS_BETWEEN)
        finally:
            await self._flush()

    async def _flush(self) -> None:
        frames, lines = self._frames, self._lines
        self._frames, self._lines = [], []
        if self._lost:
            return
        try:
            with anyio.CancelScope(shield=True):  # what has been taken out is written, also when the call ends now
                await run_sync(self._write, frames, lines)
        except OSError as error:
            self._lost = True
            self._metrics.lost_recordings.inc()
            log.error("recording %s ended: %s; the conversation goes on", self.path, error.strerror or error)  # noqa: TRY400 -- a full disk needs no traceback

    def _write(self, frames: list[Frame], lines: list[str]) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        if lines:
            with (self.path / "events.jsonl").open("a", encoding="utf-8") as file:
                file.writelines(lines)
        if frames:
            self._append(frames)

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
