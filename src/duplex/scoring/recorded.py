"""A recorded dialogue as tokens: both channels through the codec, and the agent's words where they are known. Blocking.

Rules:

- Each channel is resampled to the model's rate. Where one ends first, it is silent from there on.
- A file of tokens (``tokens.safetensors`` of :mod:`duplex.process`) is taken as it is; who speaks is not known then.
- The agent's words are those of a transcript beside the recording (:mod:`duplex.process.columns`); else a
  transcriber's; else the text is free, and not scored.
"""

import contextlib
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file  # pyright: ignore[reportUnknownVariableType] -- it leaves it untyped

from duplex.audio.decoding import Decoder
from duplex.checkpoints.tokenizer import Tokenizer
from duplex.codec import Codec
from duplex.errors import AudioFileError, UsageError
from duplex.frame_model import UNGENERATED, ModelSpec
from duplex.measuring.activity import RATE, Activity, detect
from duplex.measuring.channels import cut_short
from duplex.measuring.settings import Settings
from duplex.measuring.source import Source
from duplex.process.columns import encoded, text_row
from duplex.process.sides import AgentChannel
from duplex.transcription.protocol import Word

__all__ = [
    "STATES",
    "Read",
    "read_recorded",
    "read_samples",
    "read_tokens",
    "with_words",
]

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]
STATES = ("neither", "user", "agent", "both")
"""Who speaks in a frame."""
SILENT_DBFS = -60.0
SAME_LENGTH = 0.1
"""Seconds by which channels may differ without a note."""


@attrs.frozen(kw_only=True, eq=False)
class Read:
    """A dialogue's tokens int64 ``[streams, n]``, who speaks in each frame (an index of ``STATES``), and remarks.

    ``text`` says where the text is from: ``"transcript"``, ``"free"``, ``"tokens"``, or a transcriber's name.
    """

    tokens: Int64
    states: Int64 | None
    text: str
    notes: tuple[str, ...] = ()


def read_tokens(path: Path, spec: ModelSpec) -> Read:
    """Return the dialogue of a file of tokens.

    :raises UsageError: if it is none, or does not fit the model
    """
    try:
        held: dict[str, NDArray[Any]] = load_file(path)
        rows = [held["text"].reshape(1, -1), held["agent"], held["user"]]
        tokens = np.concatenate(rows).astype(np.int64)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise UsageError(f"{path} holds no tokens of a dialogue ({error}); make them with: duplex process") from error
    spec.check_tokens(tokens)
    return Read(tokens=tokens, states=None, text="tokens")


def read_recorded(source: Source, agent_channel: AgentChannel, spec: ModelSpec, codec: Codec) -> Read:
    """Return a recording's tokens, with free text.

    :raises AudioFileError: if a recording cannot be read, or has not the channels that it should
    """
    with _channels(source, agent_channel, spec.sample_rate) as channels:
        codes = [np.concatenate([found for _, found in encoded(each, codec)], axis=1) for each in channels]
    frames = max(each.shape[1] for each in codes)
    user, agent = (_filled(each, frames, codec) for each in codes)
    with _channels(source, agent_channel, RATE) as channels:
        found = detect(channels, Settings())
    text = np.full((1, frames), UNGENERATED, np.int64)
    tokens = np.concatenate([text, agent[: spec.agent_streams], user[: spec.user_streams]])
    states = sum(
        weight * _speaking(each, frames, spec.frame_duration) for weight, each in zip((1, 2), found, strict=True)
    )
    sides = found if agent_channel == "right" else found[::-1]  # as the files are
    notes = (*cut_short(source, [each.duration for each in sides]), *_notes(found))
    return Read(tokens=tokens, states=np.asarray(states), text="free", notes=notes)


def with_words(read: Read, words: Sequence[Word], tokenizer: Tokenizer, spec: ModelSpec, origin: str) -> Read:
    """Return the dialogue with the agent's words as its text."""
    tokens = read.tokens.copy()
    tokens[0] = text_row(words, tokens.shape[1], tokenizer, spec)
    return attrs.evolve(read, tokens=tokens, text=origin)


def read_samples(source: Source, agent_channel: AgentChannel, rate: int) -> Float32:
    """Return the agent's channel, float32 ``[samples]``, for a transcriber."""
    with _channels(source, agent_channel, rate) as (_, agent):
        pieces: list[Float32] = []
        while (piece := agent.read()) is not None:
            pieces.append(piece)
    return np.concatenate(pieces)


@contextlib.contextmanager
def _channels(source: Source, agent_channel: AgentChannel, rate: int) -> Generator[list[Decoder]]:
    """Give a decoder of the user's channel and one of the agent's."""
    if source.problem is not None:
        raise source.problem
    if source.kind == "turns":
        raise UsageError(f"{source.files[0].path} tells of turns alone; give the recording")
    if source.start or source.end is not None:
        raise UsageError(
            f"{source.files[0].path} is scored whole, and '{source.name}' is a stretch of it; give the recording "
            "itself, or cut it out"
        )
    sides: list[AgentChannel] = ["left", "right"] if agent_channel == "right" else ["right", "left"]
    with contextlib.ExitStack() as stack:
        decoders: list[Decoder] = []
        for side in sides:
            paired = source.kind == "pair"
            file = source.files[int(side == "right") if paired else 0]
            own = source.sides[int(side == "right")] if paired else side
            decoder = Decoder(file.path, rate, "mix" if own == "mono" else own, content=file.content)
            stack.callback(decoder.close)
            if decoder.channels != (1 if own == "mono" else 2):
                raise AudioFileError(
                    f"{file.path} has {decoder.channels} channel{'s' * (decoder.channels > 1)}; to score a dialogue, "
                    "give a stereo recording, a speaker on each channel, or two mono files, NAME-left and NAME-right"
                )
            decoders.append(decoder)
        yield decoders


def _filled(codes: Int64, frames: int, codec: Codec) -> Int64:
    """Return codes with those of silence behind them."""
    missing = frames - int(codes.shape[1])
    silence = (found for _, found in encoded(_Ended(), codec, missing))
    return np.concatenate([codes, *silence], axis=1)


class _Ended:
    """A channel that has nothing more."""

    def read(self) -> None:
        return


def _speaking(activity: Activity, frames: int, duration: float) -> Int64:
    """Return whether there is speech in the middle of each frame, 0 or 1."""
    middles = (np.arange(frames) + 0.5) * duration
    begun = np.searchsorted(activity.times[:, 0], middles, side="right")
    ended = np.searchsorted(activity.times[:, 1], middles, side="right")
    return (begun > ended).astype(np.int64)


def _notes(found: Sequence[Activity]) -> Generator[str]:
    longest = max(each.duration for each in found)
    for name, each in zip(("user", "agent"), found, strict=True):
        if each.peak <= SILENT_DBFS:
            yield f"the {name} is silent: nothing is louder than {SILENT_DBFS:g} dBFS"
        elif not len(each.times):
            yield f"the {name} has no speech"
        if longest - each.duration > SAME_LENGTH:
            yield f"the {name}'s channel is {longest - each.duration:.2f} s shorter, and counts as silence there"
