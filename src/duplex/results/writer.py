"""The files of a folder of results, written as a dialogue goes on and given their names together at its end."""

import contextlib
import itertools
import json
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from duplex.atomic import abandon, atomic_write_bytes, begin, complete, output_error
from duplex.audio.synthetic_mark import Synthetic
from duplex.audio.wav import WavWriter
from duplex.checkpoints.tokenizer import StreamingDetokenizer, Tokenizer
from duplex.conversation.transcript import Transcript, UserTranscript
from duplex.events import AgentAudio, Event, UserText
from duplex.frame_model import ZERO, Frame, ModelSpec
from duplex.results.files import (
    AGENT,
    DIALOGUE,
    EVENTS,
    RUN,
    STATE,
    TOKENS,
    TRANSCRIPT,
    USER_TRANSCRIPT,
)
from duplex.results.folder import claim, replace
from duplex.results.subtitles import as_file
from duplex.transcription.words import Placement

__all__ = ["ResultWriter"]

TIMES = ("at", "start", "end")
"""What events tell as places on the time line."""
DIGITS = 6
BLOCK = 64
"""Frames whose audio is written at a time."""


class ResultWriter:
    """Writes one dialogue's results to ``folder``, which it makes: a recorder of a conversation, told its events too.

    :meth:`record` and :meth:`event` only gather, for :meth:`flush` to write on a thread that may wait for the disk;
    memory holds a few bytes a token besides. Frames that were skipped are silence, and their tokens ``ZERO``: a place
    in the files is one on the time line. Nothing has its final name before :meth:`commit`; leaving the ``with`` block
    without it leaves nothing behind.

    With ``user_words`` there is a transcript of the user too, from the events. ``placement`` is that of a recognition
    model: there is no agent then, and the recording is the audio that was given.

    ``origin`` is the frame of the conversation's time line with which the files begin: below 0 where something of the
    recording comes before the conversation, above where the conversation has been going on. What comes before it is
    left out; times in the files count from it.

    :raises OutputError: if the folder or a file in it cannot be made, or another run writes into it
    """

    def __init__(
        self,
        folder: Path,
        spec: ModelSpec,
        tokenizer: Tokenizer,
        *,
        user_words: bool = False,
        placement: Placement | None = None,
        origin: int = 0,
    ) -> None:
        self.folder = folder
        self._origin = origin
        self._shift = -spec.seconds(origin)
        self.frames: int = 0
        """Time steps so far, those that were skipped included."""
        self._written = 0
        self._spec = spec
        self._decoder = StreamingDetokenizer(tokenizer, spec.text_padding, spec.text_end_of_padding)
        self._transcript = Transcript(spec.text_padding, spec.text_end_of_padding, spec.frame_duration)
        self._user = UserTranscript() if user_words or placement is not None else None
        self._listens = placement is not None
        self._before = 0 if placement is None else placement.lead
        self._after = 0 if placement is None else placement.flush
        self._passed = 0
        """Samples of what comes before the audio so far."""
        self._held = np.zeros((0, 2), np.float32)
        """Audio that may come to be the end of what the model heard, which is not part of the recording."""
        self._tokens = array("i")
        self._gathered: list[Frame] = []
        self._lines: list[str] = []
        self._wavs: list[WavWriter] = []
        self._events: BinaryIO | None = None
        self._parts: dict[Path, Path] = {}
        self._committed: list[Path] = []
        self._state: bytes | None = None
        self._done = False
        self._hold = claim(folder)
        try:
            if spec.agent_streams:
                self._wavs.append(self._wav(AGENT, 1, "all"))
            self._wavs.append(self._wav(DIALOGUE, 2, "right" if spec.agent_streams else None))
            self._events = self._begin(EVENTS).open("wb")
        except BaseException as error:
            self.discard()
            if isinstance(error, OSError):
                raise output_error(folder / EVENTS, error) from None
            raise

    @property
    def text(self) -> str:
        """The agent's words so far."""
        return self._transcript.as_json()["text"]

    @property
    def user_text(self) -> str:
        """The user's words so far, "" if nobody transcribes them."""
        return "" if self._user is None else self._user.as_json()["text"]

    @property
    def seconds(self) -> float:
        """Seconds of audio so far, without what a recognition model hears before and after it."""
        spec = self._spec
        return max((self.frames - self._after) * spec.frame_size - self._before, 0) / spec.sample_rate

    @property
    def due(self) -> bool:
        """Whether a second or more waits for :meth:`flush`."""
        return len(self._gathered) >= self._spec.frame_rate

    def record(self, frame: Frame) -> None:
        """Take one time step; what ``frame.at`` jumps over was skipped."""
        if self._place(frame) < 0:
            return
        self.frames = self._place(frame) + 1
        self._gathered.append(frame)

    def event(self, event: Event) -> None:
        """Take an event; audio is in the recording already."""
        if isinstance(event, UserText) and self._user is not None:
            self._user.feed(event.text, event.start + self._shift, event.end + self._shift)
        if not isinstance(event, AgentAudio):
            told = event.as_dict()
            for name in TIMES if self._origin else ():
                if isinstance(at := told.get(name), float):
                    told[name] = round(at + self._shift, DIGITS)
            self._lines.append(json.dumps(told, ensure_ascii=False))

    def keep_state(self, state: bytes) -> None:
        """Take the conversation as it is saved, to be written with the rest."""
        self._state = state

    def flush(self) -> None:
        """Write what was gathered.

        :raises OutputError: if the disk refuses
        """
        frames, self._gathered = self._gathered, []
        lines, self._lines = self._lines, []
        for frame in frames:
            self._transcript.feed(frame.text, self._decoder.feed(frame.text), frame.at + self._shift)
        whole = list(self._without_gaps(frames))
        for frame in whole:
            self._tokens.extend([frame.text, *frame.agent.tolist(), *frame.user.tolist()])
        for start in range(0, len(whole), BLOCK):
            self._write_audio(whole[start : start + BLOCK])
        try:
            if self._events is not None and lines:
                self._events.write("".join(f"{line}\n" for line in lines).encode(errors="replace"))
        except OSError as error:
            raise output_error(self.folder / EVENTS, error) from None

    def commit(self, run: Mapping[str, Any]) -> None:
        """Give all files their names; ``run.json``, which says that the others are complete, comes last.

        :raises OutputError: if the disk refuses; nothing of this dialogue stays then
        """
        self.flush()
        self._transcript.finish(self.frames * self._spec.frame_duration)
        # What still has to be written is, before the first file gets its name: a full disk shows here.
        if not self._listens:
            self._write(TRANSCRIPT, as_file(self._transcript.as_json()))
        if self._user is not None:
            self._write(USER_TRANSCRIPT, as_file(self._user.as_json()))
        self._write(TOKENS, save(self._token_tensors()))
        if self._state is not None:
            self._write(STATE, self._state)
        try:
            if self._events is not None:
                self._events.close()
            replace(self.folder, {path.name for path in (*self._parts, *(wav.path for wav in self._wavs))})
        except OSError as error:
            raise output_error(self.folder / RUN, error) from None
        for wav in self._wavs:
            wav.commit()
            self._committed.append(wav.path)
        for target, part in self._parts.items():
            complete(part, target)
            self._committed.append(target)
        names = sorted(path.name for path in self._committed)
        # ASCII, as the name of an input may have bytes that are no UTF-8.
        text = json.dumps({**run, "files": names}, indent=1) + "\n"
        atomic_write_bytes(self.folder / RUN, text.encode())
        self._done = True
        self._hold.close()

    def discard(self) -> None:
        """Remove what was written, unless it was committed; calling it twice is harmless."""
        if self._done:
            return
        for wav in self._wavs:
            wav.discard()
        if self._events is not None:
            with contextlib.suppress(OSError):  # a full disk refuses the last flush too
                self._events.close()
        for path in (*self._parts.values(), *self._committed):
            abandon(path)
        with contextlib.suppress(OSError):  # something else is in it
            self.folder.rmdir()
        self._hold.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.discard()

    def _wav(self, name: str, channels: int, synthetic: Synthetic | None) -> WavWriter:
        rate = self._spec.sample_rate
        return WavWriter(self.folder / name, channels=channels, sample_rate=rate, synthetic=synthetic)

    def _begin(self, name: str) -> Path:
        self._parts[self.folder / name] = part = begin(self.folder / name)
        return part

    def _write(self, name: str, data: bytes) -> None:
        try:
            self._begin(name).write_bytes(data)
        except OSError as error:
            raise output_error(self.folder / name, error) from None

    def _place(self, frame: Frame) -> int:
        return round(frame.at * self._spec.frame_rate) - self._origin

    def _without_gaps(self, frames: list[Frame]) -> Iterator[Frame]:
        """Yield the frames that come next in the files: those given, and silent ones for what was skipped."""
        spec, silence = self._spec, np.zeros(self._spec.frame_size, np.float32)
        skipped = Frame(
            at=0.0,
            user_pcm=silence,
            agent_pcm=silence if spec.agent_streams else None,
            text=ZERO,
            agent=np.full(spec.agent_streams, ZERO),
            user=np.full(spec.user_streams, ZERO),
        )
        for frame in frames:
            yield from itertools.repeat(skipped, self._place(frame) - self._written)
            yield frame
            self._written = self._place(frame) + 1

    def _write_audio(self, frames: list[Frame]) -> None:
        user = np.concatenate([frame.user_pcm for frame in frames])
        agent = np.zeros_like(user)
        if self._spec.agent_streams:
            agent = np.concatenate([frame.agent_pcm for frame in frames if frame.agent_pcm is not None])
            self._wavs[0].write(agent)
        self._wavs[-1].write(self._given(np.stack([user, agent], axis=1)))

    def _given(self, audio: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the next of the audio that was given to the model, which heard ``audio``, float32 ``[samples, 2]``."""
        if not self._listens:
            return audio
        left_out = min(self._before - self._passed, len(audio))
        self._passed += left_out
        audio = np.concatenate([self._held, audio[left_out:]])
        given = max(len(audio) - self._after * self._spec.frame_size, 0)
        self._held = audio[given:]
        return audio[:given]

    def _token_tensors(self) -> dict[str, NDArray[np.int64]]:
        streams = 1 + self._spec.agent_streams + self._spec.user_streams
        table = np.frombuffer(self._tokens, np.intc).reshape(self.frames, streams).T.astype(np.int64)
        user = 1 + self._spec.agent_streams
        parts = {"text": table[0], "agent": table[1:user], "user": table[user:]}
        return {name: np.ascontiguousarray(tensor) for name, tensor in parts.items()}
