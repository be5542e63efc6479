"""How a recording's conversation begins: from nothing, with a person as the agent until a time, or from a saved state.

Rules:

- A person's beginning has ``round(begin_at / frame_duration)`` frames. Its columns are the codes of both channels, and
  the words of the transcript beside the recording; without one the model chooses its own text for what it is made to
  say. The model is fed as many of the last of them as it remembers (``ModelSpec.context``).
- Results have the recording's time line. Before ``begin_at`` they hold the sound of the recording itself, both sides,
  and its columns (``UNGENERATED`` as text where no words are known).
- After a saved state a recording is what comes next: its results begin with its own first sample.
- Where the model begins its codec begins anew: it has heard nothing before.
"""

import contextlib
from collections import deque
from collections.abc import Generator, Iterator

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.audio.decoding import Decoder
from duplex.audio.pcm import UserChannel
from duplex.checkpoints.tokenizer import Tokenizer
from duplex.codec import Codec
from duplex.engine.model import Model
from duplex.errors import AudioFileError, UsageError
from duplex.frame_model import UNGENERATED, Frame, ModelSpec
from duplex.process.columns import encoded, read_words, text_row
from duplex.process.plan import Recipe
from duplex.process.recordings import Recording
from duplex.process.sides import OTHER_SIDE, transcript_of
from duplex.results.writer import ResultWriter

__all__ = ["Beginning", "check_beginning", "write_beginning"]

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]


@attrs.frozen(kw_only=True, eq=False)
class Beginning:
    """Where a recording's results begin on the conversation's time line, and how many frames a person has of it."""

    origin: int = 0
    """The frame of the conversation with which the results begin; below 0 they begin before it."""
    frames: int = 0

    @classmethod
    def of(cls, recipe: Recipe, spec: ModelSpec) -> "Beginning":
        """Return it for a recipe."""
        if recipe.state is not None:
            return cls(origin=recipe.state.frames(spec))
        frames = round((recipe.begin_at or 0.0) / spec.frame_duration)
        return cls(origin=-frames, frames=frames)


def check_beginning(recipe: Recipe, model: Model) -> None:
    """Check that a model can begin as a recipe wants.

    :raises UsageError: if it only listens
    """
    asked = recipe.begin_at is not None or recipe.state is not None or recipe.save_state
    if asked and not model.spec.agent_streams:
        raise UsageError(
            f"{model.name} says nothing: it takes nobody's place, and a file's end is the end of its session; give a "
            "model that converses"
        )


def write_beginning(
    writer: ResultWriter, recording: Recording, frames: int, spec: ModelSpec, codec: Codec, tokenizer: Tokenizer
) -> Int64 | None:
    """Write what was said before the model begins; return the history that it begins with. Blocking.

    :raises AudioFileError: if a channel cannot be read, or the user's ends before
    :raises UsageError: if the transcript beside the recording is none
    """
    if not frames:
        return None
    columns: deque[Int64] = deque(maxlen=spec.context)
    text = _text(recording, frames, tokenizer, spec)
    for frame in _frames(recording, text, spec, codec):
        writer.record(frame)
        columns.append(np.concatenate([[frame.text], frame.agent, frame.user]))
        if writer.due:
            writer.flush()
    return np.stack(columns, axis=1).astype(np.int64)


def _text(recording: Recording, frames: int, tokenizer: Tokenizer, spec: ModelSpec) -> Int64:
    path = transcript_of(recording)
    if path is None:
        return np.full(frames, UNGENERATED)
    return text_row(read_words(path), frames, tokenizer, spec)


def _frames(recording: Recording, text: Int64, spec: ModelSpec, codec: Codec) -> Iterator[Frame]:
    frames = len(text)
    with _channels(recording, spec.sample_rate) as (user, agent):
        heard, said = (_one_by_one(encoded(channel, codec, frames)) for channel in (user, agent))
        for index, (own, other) in enumerate(zip(heard, said, strict=True)):
            yield Frame(
                at=spec.seconds(index - frames),
                user_pcm=own[0],
                agent_pcm=other[0],
                text=int(text[index]),
                agent=other[1][: spec.agent_streams],
                user=own[1][: spec.user_streams],
            )
        if not user.goes_on(frames * spec.frame_size):
            raise AudioFileError(
                f"{recording.path} has {user.samples / spec.sample_rate:.2f} s, and the model is to begin at "
                f"{spec.seconds(frames):.2f} s; let it begin sooner"
            )


def _one_by_one(pieces: Iterator[tuple[Float32, Int64]]) -> Iterator[tuple[Float32, Int64]]:
    """Yield each frame's sound, and its codes ``[streams]``."""
    for pcm, codes in pieces:
        yield from zip(pcm.reshape(codes.shape[1], -1), codes.T, strict=True)


class _Counted:
    """A channel, and how many samples of it have been read."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self.samples = 0

    def read(self) -> Float32 | None:
        piece = self._decoder.read()
        self.samples += 0 if piece is None else len(piece)
        return piece

    def goes_on(self, after: int) -> bool:
        """Whether there is more than so many samples."""
        return self.samples > after or self.read() is not None


@contextlib.contextmanager
def _channels(recording: Recording, rate: int) -> Generator[tuple[_Counted, _Counted]]:
    """Give the channels of the user and the agent."""
    side: UserChannel = recording.side or "left"
    heard: list[tuple[Recording, UserChannel]] = [(recording, side), (recording.other or recording, OTHER_SIDE[side])]
    with contextlib.ExitStack() as stack:
        decoders = [
            stack.enter_context(contextlib.closing(Decoder(file.path, rate, channel, content=file.content)))
            for file, channel in heard
        ]
        user, agent = (_Counted(decoder) for decoder in decoders)
        yield user, agent
