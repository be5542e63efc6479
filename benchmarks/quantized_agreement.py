"""Measure what few bits change: agreement of tokens with float32, on the built-in model hearing a recording.

    python benchmarks/quantized_agreement.py examples/question.wav examples/conversation.wav

Each kind is fed the tokens that float32 heard and chose, step by step, and asked what it would have chosen. The second
table is the codec's: which codes stay the same, and how far what is decoded from them is from the recording.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from duplex.audio.decoding import Decoder
from duplex.backends.torch import load_model
from duplex.backends.torch.model import TorchFrameModel
from duplex.checkpoints import checkpoint
from duplex.engine.loading import load_codec
from duplex.options import SessionOptions

GREEDY = SessionOptions(temperature=0.0, text_temperature=0.0, top_k=0, text_top_k=0, seed=0, greedy=True)
KINDS: dict[str, dict[str, Any]] = {
    "bfloat16": {"dtype": "bfloat16"},
    "int8 cache": {"cache_dtype": "int8"},
    "int8 weights": {"quantize": "int8"},
    "int4 weights": {"quantize": "int4"},
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recordings", type=Path, nargs="+")
    parser.add_argument("--model", default="tiny")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = checkpoint.resolve(arguments.model)
    exact = load(found)
    heard = [converse(exact, samples(path)) for path in arguments.recordings]
    told = [thoughts(exact, tokens) for tokens in heard]
    columns = ("", "same text token", "same codes", "text logits' error", "longest same from the start")
    table = Table(*columns, title=f"{arguments.model}, against float32, {sum(t.shape[1] for t in heard)} frames")
    for name, options in KINDS.items():
        model = load(found, **options)
        rows = [compare(model, tokens, wanted) for tokens, wanted in zip(heard, told, strict=True)]
        free = [converse(model, samples(path)) for path in arguments.recordings]
        same = [agreed(a, b) for a, b in zip(heard, free, strict=True)]
        text, codes, error = np.mean(rows, axis=0)
        table.add_row(name, f"{text:.1%}", f"{codes:.1%}", f"{error:.2%}", " and ".join(same))
    Console(width=110).print(table)
    show_codec(arguments.model, np.concatenate([samples(path).reshape(-1) for path in arguments.recordings]))


def show_codec(model: str, pcm: NDArray[np.float32]) -> None:
    """Print what few bits in the codec's transformers change."""
    table = Table("codec", "same codes", "of the first codebook", "error of its sound, against the recording")
    wanted = load_codec(model, device="cpu").encode(pcm)
    for kind in (None, "int8"):
        codec = load_codec(model, device="cpu", quantize=kind)
        codes = codec.encode(pcm)
        same = codes == wanted
        error = np.linalg.norm(spectrum(codec.decode(codes)) - spectrum(pcm)) / np.linalg.norm(spectrum(pcm))
        table.add_row(kind or "float32", f"{same.mean():.1%}", f"{same[0].mean():.1%}", f"{error:.2%}")
    Console(width=110).print(table)


def spectrum(pcm: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the logarithms of short-time magnitudes ``[windows, bins]``: a codec keeps no phases."""
    windows = np.lib.stride_tricks.sliding_window_view(pcm, 1024)[::256] * np.hanning(1024)
    return np.log(np.abs(np.fft.rfft(windows)) + 1e-3).astype(np.float32)


def load(found: checkpoint.Checkpoint, **options: Any) -> TorchFrameModel:
    """Return a bare model on the CPU."""
    chosen = {"dtype": "float32", "quantize": None, "cache_dtype": "auto", **options}
    return load_model(
        found.language_model,
        found.mimi,
        weights=found.weights,
        mimi_weights=found.mimi_weights,
        fingerprint=found.fingerprint,
        device="cpu",
        sessions=1,
        deterministic=True,
        **chosen,
    )


def samples(path: Path) -> NDArray[np.float32]:
    """Return a recording in whole frames, ``[frames, 1920]``."""
    decoder, pieces = Decoder(path, 24_000, "mix"), []
    while (piece := decoder.read()) is not None:
        pieces.append(piece)
    decoder.close()
    pcm = np.concatenate(pieces)
    return np.pad(pcm, (0, -len(pcm) % 1920)).reshape(-1, 1920)


def converse(model: TorchFrameModel, frames: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the tokens of a greedy conversation, ``[streams, time steps]``."""
    model.open(0, GREEDY)
    for frame in frames:
        model.step(frame[None], np.ones(1, bool))
    return model.slots[0].log.columns.T.astype(np.int64)


def thoughts(model: TorchFrameModel, tokens: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the text logits, and the tokens that would have been chosen, of every step over known tokens."""
    logits: list[NDArray[np.float32]] = []
    chosen: list[list[int]] = []
    say, choose = model._lm._text, model._lm._chosen
    own: list[Any] = []

    def read(seen: Any, sampler: Any, step: Any, call: Any, known: Any) -> Any:
        logits.append(seen[0].numpy().copy())
        own[:] = [say(seen, sampler, step, call, None)]
        return say(seen, sampler, step, call, known)

    def listen(contexts: Any, text: Any, sampler: Any, known: Any, *rest: Any) -> Any:
        chosen.append(choose(contexts, own[0], sampler, None, *rest)[0].tolist())
        return choose(contexts, text, sampler, known, *rest)

    model.steps.recorded = None  # which would not call them
    model._lm._text, model._lm._chosen = read, listen
    try:
        model.open(0, GREEDY)
        for column in range(tokens.shape[1]):
            model.prefill(0, tokens[:, column : column + 1])
    finally:
        model._lm._text, model._lm._chosen = say, choose
    return np.stack(logits), np.array(chosen)


def compare(
    model: TorchFrameModel, tokens: NDArray[np.int64], wanted: tuple[NDArray[np.float32], NDArray[np.int64]]
) -> tuple[float, float, float]:
    """Return the shares of equal text tokens and codes, and the relative error of the text logits."""
    logits, chosen = thoughts(model, tokens)
    same = chosen == wanted[1]
    error = float(np.linalg.norm(logits - wanted[0]) / np.linalg.norm(wanted[0]))
    return float(same[:, 0].mean()), float(same[:, 1:].mean()), error


def agreed(first: NDArray[np.int64], second: NDArray[np.int64]) -> str:
    """Return how many frames two conversations are the same for."""
    length = min(first.shape[1], second.shape[1])
    differing = np.flatnonzero((first[:, :length] != second[:, :length]).any(axis=0))
    return f"{differing[0] if len(differing) else length} of {length}"


if __name__ == "__main__":
    main()
