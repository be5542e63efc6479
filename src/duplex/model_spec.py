"""What a dialogue model takes and gives: its streams, rates and vocabularies, and the two tokens that are none.

Everything here is taken from :mod:`duplex.frame_model`, which has all that crosses the protocol.
"""

from collections.abc import Mapping

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.errors import UsageError
from duplex.options import ModelKind

__all__ = ["UNGENERATED", "ZERO", "ModelSpec"]

ZERO = -1
"""A token that adds nothing to the model's input (published checkpoints' convention)."""
UNGENERATED = -2
"""A token that is not known yet, and is for the model to choose."""


@attrs.frozen(kw_only=True)
class ModelSpec:
    """What a dialogue model takes and gives.

    Stream widths come from the kind of the checkpoint: ``agent_streams`` is 0 for a model that only listens. ``delays``
    has one entry a stream, in the order text, agent, user. ``context`` is in frames. ``capacity`` is the number of
    slots. ``extra_heads`` of ``extra_classes`` each are what a recognition model tells beside the text.
    ``conditions`` are the names that a session may be conditioned on, with the words of each. ``dim`` is how many
    numbers a sum of embeddings has, which published voices hold; ``None`` where that is not told.
    """

    kind: ModelKind = "moshi"
    sample_rate: int
    frame_size: int
    text_streams: int
    agent_streams: int
    user_streams: int
    text_vocabulary: int
    audio_vocabulary: int
    text_padding: int
    text_end_of_padding: int
    delays: tuple[int, ...]
    context: int
    capacity: int
    extra_heads: int = 0
    extra_classes: int = 0
    conditions: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict[str, tuple[str, ...]])
    dim: int | None = None

    @property
    def frame_rate(self) -> float:
        """Frames in a second of audio."""
        return self.sample_rate / self.frame_size

    @property
    def frame_duration(self) -> float:
        """Seconds of audio in a frame."""
        return self.frame_size / self.sample_rate

    def seconds(self, frames: int) -> float:
        """Return how long so many frames are; as a place on the time line, where frame ``frames`` starts."""
        return frames * self.frame_size / self.sample_rate

    @property
    def streams(self) -> int:
        """How many token streams there are in all."""
        return self.text_streams + self.agent_streams + self.user_streams

    def check_tokens(self, tokens: NDArray[np.int64]) -> None:
        """Check that tokens are ``[streams, n]``, and each ``ZERO``, ``UNGENERATED`` or of its stream's vocabulary.

        :raises UsageError: if they are not
        """
        if tokens.ndim != 2 or tokens.shape[0] != self.streams or tokens.dtype.kind not in "iu":  # noqa: PLR2004
            raise UsageError(
                f"tokens are {tokens.dtype} {list(tokens.shape)}; give whole numbers of shape [{self.streams}, n]"
            )
        user = self.text_streams + self.agent_streams
        for stream, row in enumerate(tokens):
            size = self.text_vocabulary if stream < self.text_streams else self.audio_vocabulary
            size += self.kind == "hibiki" and stream >= user  # one more ends the source
            if row.size and not UNGENERATED <= row.min() <= row.max() < size:
                raise UsageError(
                    f"tokens of stream {stream} run from {row.min()} to {row.max()}; they must be 0 to {size - 1}, "
                    f"or {ZERO} or {UNGENERATED}"
                )

    @property
    def latency_frames(self) -> int:
        """How many frames go in before the first comes out, beyond the first: ``max(d - 1, 0)`` for a delay of d."""
        return max(max(self.delays) - 1, 0)
