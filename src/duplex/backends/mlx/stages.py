"""Each stage of a step on its own, for measuring: what they compute means nothing, what they cost is what a step pays.

They are not compiled together, as a step on a GPU is; there their sum is more than a step takes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import mlx.core as mx
import numpy as np

from duplex.backends.mlx.arrays import evaluate
from duplex.backends.mlx.language_model import LanguageModel
from duplex.backends.mlx.mimi import Mimi
from duplex.backends.mlx.sampling import Plan
from duplex.backends.mlx.state import Call, exclusive

if TYPE_CHECKING:
    from duplex.backends.mlx.model import MlxFrameModel

__all__ = ["stages"]


def stages(
    model: "MlxFrameModel", mimi: Mimi, lm: LanguageModel, slots: Sequence[int]
) -> Mapping[str, Callable[[], None]]:
    """See :meth:`duplex.frame_model.Staged.stages`."""
    spec = model.spec
    held = [model.slots[slot] for slot in slots]
    frames = max(slot.frames for slot in held) + 2
    states, plan = [model.state[slot] for slot in slots], Plan.of([slot.options for slot in held])
    generator = np.random.default_rng(0)

    def tokens(size: int, *shape: int) -> mx.array:
        return mx.array(generator.integers(0, size, (len(slots), *shape)).astype(np.int32))

    pcm = mx.array(0.1 * generator.standard_normal((len(slots), spec.frame_size), np.float32))
    heard, said = (tokens(spec.audio_vocabulary, count) for count in (spec.user_streams, spec.agent_streams))
    columns = tokens(min(spec.audio_vocabulary, spec.text_vocabulary), spec.streams, 1)
    found: dict[str, Callable[[Call], object]] = {
        "encode": lambda call: mimi.encode(pcm, call),
        "temporal": lambda call: lm.temporal(columns, call),
        "language_model": lambda call: lm(heard, call, plan).tokens,
    }
    if spec.agent_streams:
        found["decode"] = lambda call: mimi.decode(said[:, :, None], call)

    def prepared(compute: Callable[[Call], object]) -> Callable[[], None]:
        def run() -> None:
            with exclusive(model.device):
                evaluate(compute(Call(states, frames)), states)

        return run

    return {name: prepared(compute) for name, compute in found.items()}
