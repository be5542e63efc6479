"""A model that is learnt from beside the dialogues (knowledge distillation; Hinton, Vinyals and Dean 2015).

Where it finds the dialogue's own token the likeliest, how likely it finds the others is learnt too; where it is wrong,
the dialogue alone is. So what a model knew from much data outlives a training on less.
"""

import torch
from torch import Tensor

from duplex.backends.torch.language_model import LanguageModel
from duplex.backends.torch.state import Call
from duplex.checkpoints.checkpoint import Checkpoint
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.errors import ConfigError
from duplex.training.language_model.initial import StartingPoint, read_initial
from duplex.training.language_model.settings import LanguageModelSettings

__all__ = ["Teacher", "find_teacher"]

SHARED = (
    "n_q",
    "agent_streams",
    "card",
    "text_card",
    "text_choices",
    "delays",
    "existing_text_padding_id",
    "existing_text_end_padding_id",
)
"""What a teacher has as its pupil has it: the streams and their tokens. Its size is its own."""


class Teacher:
    """Tells how likely the text's tokens are; nothing of it is learnt or written."""

    def __init__(self, model: LanguageModel, share: float) -> None:
        self.model: LanguageModel = model.eval().requires_grad_(requires_grad=False)
        self.model.depth = None  # its codes are not learnt from
        self._share = share

    @classmethod
    def read(cls, found: Checkpoint, settings: LanguageModelSettings, device: torch.device) -> "Teacher":
        """Read its weights, in the numbers that products are computed in.

        :raises WeightsError: if they are damaged
        :raises ConfigError: if it is no language model
        """
        model = read_initial(found, getattr(torch, settings.precision), device)
        model.prepare()
        return cls(model, settings.teacher_share)

    def blend(self, exact: Tensor, logits: Tensor, text: Tensor, inputs: Tensor) -> Tensor:
        """Return each token's loss, float32 ``[batch, frames]``: where the teacher is right, a share is towards it.

        :param exact: the loss against the dialogues alone, float32 ``[batch, frames]``
        :param logits: the pupil's, ``[batch, frames, vocabulary]``
        :param text: the dialogues' tokens, int64 ``[batch, frames]``
        :param inputs: all streams' tokens before each of them, int64 ``[batch, 1 + n_q, frames]``; the teacher hears
            what is left out for the pupil
        """
        with torch.no_grad():
            found = self.model.text_linear(self.model.temporal(inputs, Call())).float()
            likely, share = found.softmax(dim=-1), self._share * (found.argmax(dim=-1) == text)
        towards = -(likely * logits.float().log_softmax(dim=-1)).sum(dim=-1)
        return torch.lerp(exact, towards, share)


def find_teacher(name: str | None, pupil: LanguageModelConfig) -> StartingPoint | None:
    """Find a teacher's checkpoint, if there is to be one.

    :raises ConfigError: if its streams or tokens are not the pupil's, or it wants conditions
    :raises CheckpointError: if it cannot be found
    """
    if name is None:
        return None
    found = StartingPoint.find(name, None)
    for key in SHARED:
        has, wanted = getattr(found.shape, key), getattr(pupil, key)
        if has != wanted:
            raise ConfigError(
                f"'{name}' cannot be the teacher: its '{key}' is {has}, and that of what learns is {wanted}; give a "
                "model of the same streams and tokens with --teacher"
            )
    if found.shape.conditioners or found.shape.cross_attention:
        raise ConfigError(f"'{name}' cannot be the teacher: it wants conditions, which dialogues have not")
    return found
