"""The stages of a step, each on its own for benchmarks; they run on made-up inputs.

They are not compiled together, as a step on a GPU is; there their sum is more than a step takes.
"""

from collections.abc import Callable, Mapping, Sequence

import mlx.core as mx
import numpy as np

from duplex.backends.mlx.arrays import evaluate
from duplex.backends.mlx.language_model import LanguageModel
from duplex.backends.mlx.mimi import Mimi
from duplex.backends.mlx.sampling import Sampling
from duplex.backends.mlx.state import Call, SlotState, exclusive
from duplex.backends.shared.slots import Slot
from duplex.frame_model import ModelSpec

__all__ = ["stages"]


def stages(
    mimi: Mimi, lm: LanguageModel, batch: Sequence[tuple[Slot, SlotState]], spec: ModelSpec, device: mx.Device
) -> Mapping[str, Callable[[], None]]:
    """Return the stages of a step of ``batch``, slots with their arrays: :meth:`duplex.frame_model.Staged.stages`."""
    held, states = [slot for slot, _ in batch], [arrays for _, arrays in batch]
    frames, sampling = max(slot.frames for slot in held) + 2, Sampling.of([slot.options for slot in held])
    generator = np.random.default_rng(0)

    def tokens(size: int, *shape: int) -> mx.array:
        return mx.array(generator.integers(0, size, (len(batch), *shape)).astype(np.int32))

    pcm = mx.array(0.1 * generator.standard_normal((len(batch), spec.frame_size), np.float32))
    heard, said = (tokens(spec.audio_vocabulary, count) for count in (spec.user_streams, spec.agent_streams))
    columns = tokens(min(spec.audio_vocabulary, spec.text_vocabulary), spec.streams, 1)
    found: dict[str, Callable[[Call], object]] = {
        "encode": lambda call: mimi.encode(pcm, call),
        "temporal": lambda call: lm.temporal(columns, call),
        "language_model": lambda call: lm(heard, call, sampling).tokens,
    }
    if spec.agent_streams:
        found["decode"] = lambda call: mimi.decode(said[:, :, None], call)

    def prepared(compute: Callable[[Call], object]) -> Callable[[], None]:
        def run() -> None:
            with exclusive(device):
                evaluate(compute(Call(states, frames)), states)

        return run

    return {name: prepared(compute) for name, compute in found.items()}
