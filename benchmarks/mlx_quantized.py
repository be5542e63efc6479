"""Measure what MLX's 8 and 4 bits change in a language model: agreement of greedy tokens with bfloat16.

    python benchmarks/mlx_quantized.py MODEL [--frames 30]

Each kind is fed the same tokens step by step, and asked what it would have said. float32 stands beside them: how far
bfloat16 itself is from it shows how much the model makes of small differences.
"""

import argparse
from collections.abc import Iterator

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from duplex.backends.mlx.language_model import load_language_model
from duplex.backends.mlx.sampling import Sampling
from duplex.backends.mlx.state import Call, allocate, bind
from duplex.backends.mlx.weights import PACKINGS
from duplex.checkpoints import checkpoint
from duplex.options import SessionOptions

GREEDY = SessionOptions(temperature=0.0, text_temperature=0.0, top_k=0, text_top_k=0, seed=0)
KINDS = {
    "bfloat16": (mx.bfloat16, None),
    "float32": (mx.float32, None),
    "int8": (mx.bfloat16, "int8"),
    "int4": (mx.bfloat16, "int4"),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--frames", type=int, default=30)
    arguments = parser.parse_args()
    found = checkpoint.resolve(arguments.model)
    table = Table("", "same text token", "in the first 5", "text logits' error", title=f"{arguments.frames} frames")
    logits = {kind: np.stack(list(thoughts(found, kind, arguments.frames))) for kind in KINDS}
    exact = logits["bfloat16"]
    for kind, those in logits.items():
        best = np.argsort(-those, axis=1)[:, :5]
        chosen = exact.argmax(axis=1)
        error = np.linalg.norm(those - exact) / np.linalg.norm(exact)
        same, near = (those.argmax(axis=1) == chosen).mean(), (best == chosen[:, None]).any(axis=1).mean()
        table.add_row(kind, f"{same:.1%}", f"{near:.1%}", f"{error:.2%}")
    Console(width=100).print(table)


def thoughts(found: checkpoint.Checkpoint, kind: str, frames: int) -> Iterator[NDArray[np.float32]]:
    """Yield the text logits of each step over random tokens."""
    dtype, packing = KINDS[kind]
    config, rng = found.language_model, np.random.default_rng(1)
    packed = None if packing is None else PACKINGS[packing]
    model = load_language_model(config, found.weights, dtype=dtype, packing=packed)
    state = allocate(bind(model, "lm", frames), dtype)
    model.begin(state, GREEDY)
    for index in range(frames):
        user = rng.integers(0, config.card, (1, config.user_streams))
        text = rng.integers(0, config.text_card, (1, 1))
        agent = rng.integers(0, config.card, (1, config.agent_streams))
        known = mx.array(np.concatenate([text, agent], axis=1).astype(np.int32))
        heard = None if index == 0 else mx.array(user.astype(np.int32))
        step = model(heard, Call([state], index + 1), Sampling.of([GREEDY]), known)
        mx.eval(step.text_logits, state)
        yield np.array(step.text_logits[0].astype(mx.float32))


if __name__ == "__main__":
    main()
