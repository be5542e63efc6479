"""What a session is conditioned on, as vectors: computed once, in float32, when its slot opens.

A condition that a session does not name is the learnt padding.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from duplex.checkpoints.conditioning import ConditionerConfig
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.errors import UsageError
from duplex.parsing import shown

__all__ = ["ConditionProvider"]


class Conditioner(nn.Module):
    """One condition: a word of a table, or vectors, to vectors of the model's width."""

    def __init__(self, config: ConditionerConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        if config.kind == "lut":
            self.embed: nn.Embedding = nn.Embedding(config.bins + 1, config.dim)  # pyright: ignore[reportUnknownMemberType]
        self.output_proj: nn.Linear = nn.Linear(config.dim, dim, bias=False)
        self.learnt_padding: nn.Parameter = nn.Parameter(torch.empty(1, 1, dim))

    def word(self, name: str, word: str | None) -> Tensor:
        """Return the vector of a word, float32 ``[dim]``.

        :raises UsageError: if it is not in the table; ``name`` is the condition's
        """
        if word is None:
            return self.learnt_padding[0, 0]
        if word not in self.config.values:
            raise UsageError(f"{name} is {shown(word)}; this model knows {', '.join(self.config.values)}")
        index = torch.tensor(self.config.values.index(word), device=self.learnt_padding.device)
        return self.output_proj(self.embed(index))


class ConditionProvider(nn.Module):
    """All conditions of a model."""

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.config = config
        made = {name: Conditioner(part, config.dim) for name, part in config.conditioners.items()}
        self.conditioners: nn.ModuleDict = nn.ModuleDict(made)
        self.made: dict[str, Conditioner] = made

    def sum(self, words: Mapping[str, str]) -> Tensor:
        """Return what is added to every step's input, float32 ``[dim]``.

        :raises UsageError: if a condition or a word is unknown
        """
        unknown = sorted(set(words) - set(self.made))
        if unknown:
            raise UsageError(f"this model has no condition {shown(unknown[0])}; it has {', '.join(self.made)}")
        parts = [self.made[name].word(name, words.get(name)) for name in self.config.fuser.sum]
        return torch.stack(parts).sum(dim=0)
