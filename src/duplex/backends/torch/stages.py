"""The stages of a step, each on its own for benchmarks; they run on made-up inputs.

On CUDA each is a captured graph, as it is a part of one in a step.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch

from duplex.backends.torch.language_model import LanguageModel
from duplex.backends.torch.mimi import Mimi
from duplex.backends.torch.sampling import Sampling
from duplex.backends.torch.state import Call, Rows, Slot, SlotState
from duplex.frame_model import ModelSpec

__all__ = ["stages"]


def stages(
    mimi: Mimi, lm: LanguageModel, state: SlotState, batch: Mapping[int, Slot], spec: ModelSpec
) -> Mapping[str, Callable[[], None]]:
    """Return the stages of a step of ``batch``, slots by their rows of ``state``.

    See :meth:`duplex.frame_model.Staged.stages`.
    """
    slots, held, device = list(batch), list(batch.values()), lm.text_linear.weight.device
    frames = None if device.type == "cuda" else max(slot.frames for slot in held)
    mimi_filled, lm_filled = (None, None) if frames is None else (frames + 1, frames + 2)
    rows, sampling = Rows.of(slots, device), Sampling.of([slot.options for slot in held])
    generator = np.random.default_rng(0)

    def tokens(size: int, *shape: int) -> torch.Tensor:
        return torch.as_tensor(generator.integers(0, size, (len(slots), *shape))).to(device)

    pcm = torch.as_tensor(0.1 * generator.standard_normal((len(slots), spec.frame_size), np.float32)).to(device)
    heard, said = (tokens(spec.audio_vocabulary, count) for count in (spec.user_streams, spec.agent_streams))
    columns = tokens(min(spec.audio_vocabulary, spec.text_vocabulary), spec.streams, 1)
    found: dict[str, Callable[[], object]] = {
        "temporal": lambda: lm.temporal(columns, Call(state, rows, lm_filled)),
        "language_model": lambda: lm(heard if spec.user_streams else None, Call(state, rows, lm_filled), sampling),
    }
    if spec.user_streams:
        found = {"encode": lambda: mimi.encode(pcm, Call(state, rows, mimi_filled)), **found}
    if spec.agent_streams:
        found["decode"] = lambda: mimi.decode(said[:, :, None], Call(state, rows, mimi_filled))
    prepared = _captured if device.type == "cuda" else _direct
    return {name: prepared(compute) for name, compute in found.items()}


def _direct(compute: Callable[[], object]) -> Callable[[], None]:
    @torch.inference_mode()
    def run() -> None:
        compute()

    return run


@torch.inference_mode()
def _captured(compute: Callable[[], object]) -> Callable[[], None]:
    compute()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        compute()

    def run() -> None:
        graph.replay()
        torch.cuda.synchronize()

    return run
