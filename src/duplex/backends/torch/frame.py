"""One frame of every row of a batch, from what is heard to what is said, on one device."""

from collections.abc import Collection, Generator
from contextlib import contextmanager

from torch import Tensor

from duplex.backends.torch.language_model import LanguageModel
from duplex.backends.torch.mimi import Mimi
from duplex.backends.torch.sampling import Sampling
from duplex.backends.torch.state import Call, Rows, SlotState
from duplex.frame_model import ModelSpec

__all__ = ["compute_frame", "unheard"]

_EARS = ("mimi.encoder", "mimi.downsample")
"""The codec's state tensors that encoding changes."""


def compute_frame(  # noqa: PLR0917 -- a step is made of these
    mimi: Mimi,
    language_model: LanguageModel,
    spec: ModelSpec,
    state: SlotState,
    heard: Tensor,
    rows: Rows,
    speaking: Rows,
    sampling: Sampling,
    filled: int | Tensor | None = None,
    complete: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Advance ``rows`` by a frame on the device: int64 ``[batch, streams]``, and the audio of those ``speaking``.

    ``heard`` is float32 ``[batch, frame_size]``. ``complete`` int64 says which rows speak, if not all; ``filled`` is
    the most frames any of them has had, where the host knows it.
    """
    mimi_filled, lm_filled = (None, None) if filled is None else (filled + 1, filled + 2)
    user = None
    if spec.user_streams:
        user = mimi.encode(heard, Call(state, rows, mimi_filled))[:, : spec.user_streams, 0]
    step = language_model(user, Call(state, rows, lm_filled), sampling)
    said = step.tokens[:, language_model.agent] if complete is None else step.tokens[complete, language_model.agent]
    if not spec.agent_streams or not len(said):
        return step.tokens, heard.new_zeros((len(said), spec.frame_size))
    # In a captured graph a row that is not complete speaks too, into the spare slot.
    if not mimi.quantizer.partial:
        said = said.clamp(min=0)
    voice = mimi.decode(said[:, :, None], Call(state, speaking, mimi_filled))
    return step.tokens, voice


@contextmanager
def unheard(state: SlotState, slots: Collection[int]) -> Generator[None]:
    """Leave the codec's encoder of these slots as it is, whatever it hears in the block."""
    ears = [tensor for name, tensor in state.tensors.items() if name.startswith(_EARS)] if slots else []
    before = [(tensor, slot, tensor[slot].clone()) for tensor in ears for slot in slots]
    yield
    for tensor, slot, value in before:
        tensor[slot] = value
