"""How likely the model without weights finds each token, given all tokens so far; and the contract's noise."""

import numpy as np
from numpy.typing import NDArray

from duplex.backends.shared import noise
from duplex.frame_model import ModelSpec

__all__ = ["PADDING", "WORD", "token_scores", "with_noise"]

Float32 = NDArray[np.float32]

WORD = (1 << 64) - 1
"""The bits of what is left of the tokens so far."""
PADDING = 3
_QUIET = 2.5
"""How much it prefers padding to a word."""


def token_scores(thought: int, stream: int, spec: ModelSpec) -> Float32:
    """Return the scores of a stream's tokens, float32 ``[vocabulary]``, from what is left of all tokens before."""
    size = spec.audio_vocabulary if stream else spec.text_vocabulary
    scores = (4 * noise.uniform(thought, 0, stream, size)).astype(np.float32)
    if stream == 0:
        scores[PADDING] += _QUIET
    return scores


def with_noise(scores: Float32, temperature: float, top_k: int, place: tuple[int, int, int]) -> Float32:
    """Return what the token is the argmax of (contract, section 2); ``place`` is the seed, the step and the stream."""
    if not temperature:
        return scores
    noisy = scores / np.float32(temperature) + noise.gumbel(*place, len(scores))
    if 0 < top_k < len(scores):
        noisy[scores < np.sort(scores)[-top_k]] = -np.inf
    return noisy
