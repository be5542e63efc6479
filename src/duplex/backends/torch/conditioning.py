"""What a session is conditioned on, as vectors: computed once, in float32, when its slot opens.

A condition that a session does not name is the learnt padding.
"""

import torch
from torch import Tensor, nn

from duplex.backends.shared.conditioning import check_names, given_vectors, word_index
from duplex.checkpoints.conditioning import ConditionerConfig
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.frame_model import Conditions

__all__ = ["ConditionProvider"]


class Conditioner(nn.Module):
    """One condition: a word of a table, or vectors, to vectors of the model's width."""

    def __init__(self, config: ConditionerConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        if config.kind == "lut":
            self.embed: nn.Embedding = nn.Embedding(config.bins + 1, config.dim)  # pyright: ignore[reportUnknownMemberType] -- as torch
        self.output_proj: nn.Linear = nn.Linear(config.dim, dim, bias=False)
        self.learnt_padding: nn.Parameter = nn.Parameter(torch.empty(1, 1, dim))

    def word(self, name: str, conditions: Conditions) -> Tensor:
        """Return the vector of a word, float32 ``[dim]``.

        :raises UsageError: if it is not in the table; ``name`` is the condition's
        """
        index = word_index(name, self.config, conditions)
        if index is None:
            return self.learnt_padding[0, 0]
        return self.output_proj(self.embed(torch.tensor(index, device=self.learnt_padding.device)))

    def vectors(self, name: str, conditions: Conditions) -> Tensor:
        """Return the vectors of a sequence, float32 ``[n, dim]``: the learnt padding where it is masked.

        :raises UsageError: if they are of another width, or are none
        """
        found = given_vectors(name, self.config, conditions)
        if found is None:
            return self.learnt_padding[0]
        given, mask = found
        device = self.learnt_padding.device
        made = self.output_proj(torch.tensor(given, device=device))
        return torch.where(torch.tensor(mask, device=device)[:, None], made, self.learnt_padding[0])


class ConditionProvider(nn.Module):
    """All conditions of a model."""

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.config = config
        made = {name: Conditioner(part, config.dim) for name, part in config.conditioners.items()}
        self.conditioners: nn.ModuleDict = nn.ModuleDict(made)
        self.made: dict[str, Conditioner] = made

    def sum(self, conditions: Conditions) -> Tensor:
        """Return what is added to every step's input, float32 ``[dim]``.

        :raises UsageError: if a condition or a word is unknown
        """
        check_names(self.config.conditioners, conditions)
        parts = [self.made[name].word(name, conditions) for name in self.config.fuser.sum]
        return torch.stack(parts).sum(dim=0)

    def cross(self, conditions: Conditions) -> Tensor:
        """Return what the temporal layers attend to, float32 ``[n, dim]``.

        :raises UsageError: if a condition is unknown, or does not fit the model
        """
        check_names(self.config.conditioners, conditions)
        fuser = self.config.fuser
        source = torch.cat([self._sequence(name, conditions) for name in fuser.cross])
        if fuser.cross_attention_pos_emb:
            positions, dim = source.shape
            return source + _sinusoids(positions, dim, source.device) * fuser.cross_attention_pos_emb_scale
        return source

    def _sequence(self, name: str, conditions: Conditions) -> Tensor:
        made = self.made[name]
        if made.config.kind == "tensor":
            return made.vectors(name, conditions)
        return made.word(name, conditions)[None]


def _sinusoids(positions: int, dim: int, device: torch.device) -> Tensor:
    """Return ``[positions, dim]``: cosines, then sines, of frequencies from 1 down to 1 / 10000."""
    exponent = torch.arange(dim // 2, device=device, dtype=torch.float32) / (dim // 2 - 1)
    phase = torch.arange(positions, device=device)[:, None] / 10000**exponent
    return torch.cat([phase.cos(), phase.sin()], dim=1)
