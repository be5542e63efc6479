"""What a session is conditioned on, as vectors: computed once, in float32, when its slot opens.

A condition that a session does not name is the learnt padding.
"""

import math

import mlx.core as mx

from duplex.backends.mlx.arrays import from_numpy
from duplex.backends.mlx.embedding import TokenEmbedding
from duplex.backends.mlx.linear import Linear
from duplex.backends.mlx.module import Module
from duplex.backends.shared.conditioning import check_names, given_vectors, word_index
from duplex.checkpoints.conditioning import ConditionerConfig
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.frame_model import Conditions

__all__ = ["ConditionProvider"]


class Conditioner(Module):
    """One condition: a word of a table, or vectors, to vectors of the model's width."""

    def __init__(self, config: ConditionerConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        if config.kind == "lut":
            self.embed: TokenEmbedding = TokenEmbedding(config.bins + 1, config.dim)
        self.output_proj: Linear = Linear(config.dim, dim)
        self.learnt_padding: mx.array = mx.zeros((1, 1, dim))

    def word(self, name: str, conditions: Conditions) -> mx.array:
        """Return the vector of a word, float32 ``[dim]``.

        :raises UsageError: if it is not in the table; ``name`` is the condition's
        """
        index = word_index(name, self.config, conditions)
        if index is None:
            return self.learnt_padding[0, 0]
        return self.output_proj(self.embed(mx.array(index)))

    def vectors(self, name: str, conditions: Conditions) -> mx.array:
        """Return the vectors of a sequence, float32 ``[n, dim]``: the learnt padding where it is masked.

        :raises UsageError: if they are of another width, or are none
        """
        found = given_vectors(name, self.config, conditions)
        if found is None:
            return self.learnt_padding[0]
        given, mask = found
        made = self.output_proj(from_numpy(given))
        return mx.where(from_numpy(mask)[:, None], made, self.learnt_padding[0])


class ConditionProvider(Module):
    """All conditions of a model."""

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.config = config
        self.conditioners: dict[str, Conditioner] = {
            name: Conditioner(part, config.dim) for name, part in config.conditioners.items()
        }

    def sum(self, conditions: Conditions) -> mx.array:
        """Return what is added to every step's input, float32 ``[dim]``.

        :raises UsageError: if a condition or a word is unknown
        """
        check_names(self.config.conditioners, conditions)
        total = mx.zeros(self.config.dim)
        for name in self.config.fuser.sum:
            total = total + self.conditioners[name].word(name, conditions)
        return total

    def cross(self, conditions: Conditions) -> mx.array:
        """Return what the temporal layers attend to, float32 ``[n, dim]``.

        :raises UsageError: if a condition is unknown, or does not fit the model
        """
        check_names(self.config.conditioners, conditions)
        fuser = self.config.fuser
        parts = [
            self.conditioners[name].vectors(name, conditions)
            if self.config.conditioners[name].kind == "tensor"
            else self.conditioners[name].word(name, conditions)[None]
            for name in fuser.cross
        ]
        source = mx.concatenate(parts) if parts else mx.zeros((1, self.config.dim))
        if fuser.cross_attention_pos_emb:
            source = source + fuser.cross_attention_pos_emb_scale * _sinusoids(*source.shape)
        return source


def _sinusoids(positions: int, dim: int) -> mx.array:
    """Return ``[positions, dim]``: cosines, then sines, of frequencies from 1 down to 1 / 10000."""
    exponent = mx.arange(dim // 2, dtype=mx.float32) * (-math.log(10000) / (dim // 2 - 1))
    phase = mx.arange(positions, dtype=mx.float32)[:, None] * mx.exp(exponent)
    return mx.concatenate([mx.cos(phase), mx.sin(phase)], axis=1)
