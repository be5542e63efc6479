"""One frame of every row of a batch, from what is heard to what is said, as one graph."""

import attrs
import mlx.core as mx

from duplex.backends.mlx.language_model import LanguageModel
from duplex.backends.mlx.mimi import Mimi
from duplex.backends.mlx.sampling import Sampling
from duplex.backends.mlx.state import Call, SlotState
from duplex.frame_model import ModelSpec

__all__ = ["Shape", "compute_frame"]

_EARS = ("mimi.encoder", "mimi.downsample")
"""The codec's state arrays that encoding changes."""


@attrs.frozen
class Shape:
    """All that a step's graph depends on besides its arrays."""

    frames: int
    """How many frames attention reads, at least those that have gone in."""
    complete: tuple[int, ...]
    """The rows for which audio comes out."""
    sampling: Sampling
    guided: tuple[int, ...]
    """The rows that have a second one."""
    ending: tuple[int, ...]
    """The rows whose source ends with this step."""


def compute_frame(
    mimi: Mimi,
    language_model: LanguageModel,
    spec: ModelSpec,
    shape: Shape,
    states: list[SlotState],
    pcm: mx.array,
) -> tuple[mx.array, mx.array | None, mx.array | None, list[SlotState]]:
    """Return tokens int32 ``[batch, streams]``, voice ``[complete, frame_size]``, extra heads, and new states.

    ``pcm`` is float32 ``[batch, frame_size]``.
    """
    call = Call(states, shape.frames)
    user = None
    if spec.user_streams:
        codes = _heard_codes(mimi, pcm, call, shape.ending)[:, : spec.user_streams]
        user = _or_ending(codes, shape.ending, language_model.config.card)
    step = language_model(user, call, shape.sampling)
    voice = None
    if shape.complete:
        spoken = mx.stack([step.tokens[row, language_model.agent, None] for row in shape.complete])
        voice = mimi.decode(spoken, Call([states[row] for row in shape.complete], shape.frames))
    return step.tokens, voice, step.heads, states


def _heard_codes(mimi: Mimi, pcm: mx.array, call: Call, ending: tuple[int, ...]) -> mx.array:
    """Return what is heard, int32 ``[batch, codebooks]``; the encoder of rows that are ``ending`` is left as it is."""
    kept = [{name: array for name, array in call.rows[row].items() if name.startswith(_EARS)} for row in ending]
    codes = mimi.encode(pcm, call)[:, :, 0]
    for row, before in zip(ending, kept, strict=True):
        call.rows[row].update(before)
    return codes


def _or_ending(codes: mx.array, ending: tuple[int, ...], card: int) -> mx.array:
    """Return the codes, of rows that are ``ending`` what says so."""
    if not ending:
        return codes
    ends = mx.array([row in ending for row in range(codes.shape[0])])
    return mx.where(ends[:, None], card, codes)
