"""Each stage of a step on its own, for measuring: what they compute means nothing, what they cost is what a step pays.

On CUDA each is a captured graph, as it is a part of one in a step.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from duplex.backends.torch.language_model import LanguageModel
from duplex.backends.torch.mimi import Mimi
from duplex.backends.torch.sampling import Sampling
from duplex.backends.torch.state import Call, Rows

if TYPE_CHECKING:
    from duplex.backends.torch.model import TorchFrameModel

__all__ = ["stages"]


def stages(
    model: "TorchFrameModel", mimi: Mimi, lm: LanguageModel, slots: Sequence[int]
) -> Mapping[str, Callable[[], None]]:
    """See :meth:`duplex.frame_model.Staged.stages`."""
    spec, device = model.spec, model.device
    held = [model.slots[slot] for slot in slots]
    frames = None if device.type == "cuda" else max(slot.frames for slot in held)
    mimi_filled, lm_filled = (None, None) if frames is None else (frames + 1, frames + 2)
    rows, sampling = Rows.of(list(slots), device), Sampling.of([slot.options for slot in held])
    generator = np.random.default_rng(0)

    def tokens(size: int, *shape: int) -> torch.Tensor:
        return torch.as_tensor(generator.integers(0, size, (len(slots), *shape))).to(device)

    pcm = torch.as_tensor(0.1 * generator.standard_normal((len(slots), spec.frame_size), np.float32)).to(device)
    heard, said = (tokens(spec.audio_vocabulary, count) for count in (spec.user_streams, spec.agent_streams))
    columns = tokens(min(spec.audio_vocabulary, spec.text_vocabulary), spec.streams, 1)
    found: dict[str, Callable[[], object]] = {
        "encode": lambda: mimi.encode(pcm, Call(model.state, rows, mimi_filled)),
        "temporal": lambda: lm.temporal(columns, Call(model.state, rows, lm_filled)),
        "language_model": lambda: lm(heard, Call(model.state, rows, lm_filled), sampling),
    }
    if spec.agent_streams:
        found["decode"] = lambda: mimi.decode(said[:, :, None], Call(model.state, rows, mimi_filled))
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
