"""Whisper beside a conversation: each of the user's turns is transcribed when it is over, in a thread of its own."""

from collections import deque
from collections.abc import Sequence
from importlib import import_module
from os import PathLike, fspath
from types import TracebackType
from typing import Any, Self

import anyio
import numpy as np
from numpy.typing import NDArray

from duplex.audio.pcm import Resampler
from duplex.concurrency.notifiers import Notifier
from duplex.engine.workers import Workers
from duplex.errors import CheckpointError, UsageError
from duplex.extras import require
from duplex.transcription.clips import Clip, Clipper
from duplex.transcription.protocol import Missed, Word

__all__ = ["WhisperTranscriber"]

Float32 = NDArray[np.float32]
RATE = 16000
COMPUTE = {"cpu": "float32", "cuda": "float16"}
"""What a device computes with; converted models may hold another type."""
CLOSE_SECONDS = 30.0


class WhisperTranscriber:
    """Transcribes the user's turns, from ``UserSpeechStarted`` to ``UserSpeechStopped``, with ``faster-whisper``.

    ``model`` is a folder with a converted Whisper model, or a name that ``faster-whisper`` knows and downloads, such as
    ``"small.en"``. ``language`` is that of the user (``"en"``); left out, each turn's is guessed. ``device`` is
    ``"cpu"``, ``"cuda"`` or ``"auto"``, and ``threads`` how many a CPU takes. Turns of all conversations wait for one
    thread; of a live one at most ``BACKLOG`` seconds, and what was left out is told as ``Lag``.

    Loading blocks. Close it, or use it in a ``with`` block.

    :raises MissingDependencyError: if ``faster-whisper`` is not installed
    :raises CheckpointError: if the model cannot be loaded
    :raises UsageError: if the model does not know the language
    """

    BACKLOG = 60.0
    """Seconds of turns that may wait in a live conversation."""

    def __init__(
        self, model: str | PathLike[str], *, language: str | None = None, device: str = "cpu", threads: int = 1
    ) -> None:
        require("transcribe", "faster_whisper", purpose="a Whisper transcriber")
        self.name: str = fspath(model)
        try:
            self._model: Any = import_module("faster_whisper").WhisperModel(
                self.name, device=device, compute_type=COMPUTE.get(device, "default"), cpu_threads=threads
            )
        except Exception as error:  # whatever its libraries raise
            raise CheckpointError(
                f"the Whisper model {self.name!r} cannot be loaded ({error}); give a folder with a model.bin, "
                "or a name that faster-whisper knows"
            ) from error
        known: Sequence[str] = self._model.supported_languages
        if language is not None and language not in known:
            raise UsageError(f"the Whisper model {self.name!r} has no language {language!r}; it has {', '.join(known)}")
        self.language: str | None = language
        """That of the user; ``None`` if it is guessed."""
        self._workers = Workers("duplex-transcriber", 1)
        self._workers.start()

    def open(self, sample_rate: int, *, realtime: bool) -> "_WhisperTranscription":
        """Begin to transcribe a conversation with audio of this rate, in its event loop."""
        return _WhisperTranscription(self, sample_rate, self.BACKLOG if realtime else None)

    async def transcribe(self, pcm: Float32, sample_rate: int, *, pauses: bool = False) -> list[Word]:
        """Return the words of audio, float32 ``[samples]``; with ``pauses``, it is more than one turn.

        :raises ClosedError: after :meth:`close`
        """
        return await self._workers.run(self._words, (pcm, sample_rate, pauses))

    def close(self) -> None:
        """Stop the thread; more than once is harmless."""
        self._workers.close(CLOSE_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _words(self, audio: tuple[Float32, int, bool]) -> list[Word]:
        pcm, rate, pauses = audio
        if rate != RATE:
            resampler = Resampler(rate, RATE)
            pcm = np.concatenate([resampler.push(pcm), resampler.flush()])
        segments, _ = self._model.transcribe(
            pcm,
            language=self.language,
            beam_size=1,
            temperature=0.0,  # no second tries with noise, which take many times as long
            word_timestamps=True,
            condition_on_previous_text=False,
            vad_filter=pauses,
        )
        seconds = len(pcm) / RATE
        found: list[Word] = []
        for piece in (word for segment in segments for word in segment.words or ()):
            start, end = min(float(piece.start), seconds), min(float(piece.end), seconds)
            if found and not piece.word.startswith(" "):  # punctuation, and languages written without spaces
                found[-1] = Word(found[-1].text + piece.word.rstrip(), found[-1].start, end)
            elif piece.word.strip():
                found.append(Word(piece.word.strip(), start, end))
        return found


class _WhisperTranscription:
    """One conversation's."""

    HELD_BACK = 30.0
    """Seconds of turns that may wait before a conversation that is not live is held back."""

    def __init__(self, whisper: WhisperTranscriber, sample_rate: int, limit: float | None) -> None:
        self._whisper = whisper
        self._rate = sample_rate
        self._limit = limit
        self._clipper = Clipper(sample_rate)
        self._waiting: deque[Clip] = deque()
        self._missed: deque[Missed] = deque()
        self._added, self._taken = Notifier(), Notifier()
        self._over = False

    @property
    def _seconds(self) -> float:
        return sum(clip.seconds for clip in self._waiting)

    def hear(self, at: float, pcm: Float32) -> None:
        self._add(self._clipper.hear(at, pcm))

    def turn(self, *, started: bool, at: float) -> None:
        self._add(self._clipper.turn(started=started, at=at))

    async def room(self) -> None:
        while self._seconds > self.HELD_BACK and not self._over:
            await self._taken.wait()

    def finish(self) -> None:
        self._add(self._clipper.finish())
        self._over = True
        self._added.notify_all()

    async def receive(self) -> Sequence[Word | Missed]:
        while not (self._waiting or self._missed):
            if self._over:
                raise anyio.EndOfStream
            await self._added.wait()
        if self._missed:
            return [self._missed.popleft()]
        clip = self._waiting.popleft()
        self._taken.notify_all()
        words = await self._whisper.transcribe(clip.pcm, self._rate)
        return [Word(word.text, clip.at + word.start, clip.at + word.end) for word in words]

    def close(self) -> None:
        self._over = True
        self._waiting.clear()

    def _add(self, clip: Clip | None) -> None:
        if clip is None:
            return
        while self._limit is not None and self._waiting and self._seconds + clip.seconds > self._limit:
            behind = self._seconds
            oldest = self._waiting.popleft()
            self._missed.append(Missed(oldest.at, behind, oldest.seconds))
        self._waiting.append(clip)
        self._added.notify_all()
