"""Compare with what the original package computed, on checkpoints made by its reference script.

    python benchmarks/against_reference.py DIR [DIR ...]

Each DIR holds a checkpoint and expected.safetensors (see tests/data/reference). Prints, per checkpoint, how many codes
and greedy tokens differ and the largest differences of audio and logits. Differences should be 0, and below 1e-4 (the
codec's audio) and 1e-3 (logits, the agent's audio).
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from safetensors.numpy import load_file

from duplex.backends.torch import load_model
from duplex.backends.torch.language_model import LanguageModel, TimeStep
from duplex.backends.torch.model import TorchFrameModel
from duplex.checkpoints import checkpoint
from duplex.options import SessionOptions

CHUNKS = (1, 2, 3, 7, 16, 80)
GREEDY = SessionOptions(temperature=0.0, text_temperature=0.0, top_k=0, text_top_k=0, seed=0, greedy=True)


def load(folder: str, sessions: int = 1) -> TorchFrameModel:
    """Load a checkpoint in float32 on the CPU."""
    found = checkpoint.resolve(folder)
    model = load_model(
        found.language_model,
        found.mimi,
        weights=found.weights,
        mimi_weights=found.mimi_weights,
        fingerprint=found.fingerprint,
        device="cpu",
        dtype="float32",
        quantize=None,
        cache_dtype="auto",
        sessions=sessions,
        deterministic=False,
    )
    assert isinstance(model, TorchFrameModel)  # noqa: S101
    return model


def compare_codec(model: TorchFrameModel, expected: dict[str, np.ndarray]) -> tuple[int, float]:
    """Return the differing codes and the largest difference of audio, over all chunk sizes."""
    size, codes, pcm = model.spec.frame_size, expected["mimi_codes"], expected["pcm"]
    different, largest = 0, 0.0
    for chunk in CHUNKS:
        stream = model.codec.stream()
        encoded = [stream.encode(pcm[i : i + chunk * size]) for i in range(0, len(pcm), chunk * size)]
        decoded = [stream.decode(codes[:, i : i + chunk]) for i in range(0, codes.shape[1], chunk)]
        different += int((np.concatenate(encoded, axis=1) != codes).sum())
        largest = max(largest, float(np.abs(np.concatenate(decoded) - expected["mimi_pcm"]).max()))
    return different, largest


def compare_dialogue(model: TorchFrameModel, expected: dict[str, np.ndarray]) -> tuple[int, int, float, float]:
    """Return the differing text tokens and codes, and the largest differences of logits and of the agent's audio."""
    logits: list[np.ndarray] = []

    def keep(_module: LanguageModel, _input: object, output: TimeStep) -> None:
        logits.append(output.text_logits[0].numpy().copy())

    model.steps.recorded = None  # which would call no hook
    model._lm.register_forward_hook(keep)
    size, spec = model.spec.frame_size, model.spec
    frames = np.pad(expected["pcm"], (0, spec.latency_frames * size)).reshape(-1, 1, size)
    model.open(0, GREEDY)
    results = [model.step(frame, np.ones(1, np.bool_)) for frame in frames]
    results = [result for result in results if result.valid[0]]
    columns = len(expected["lm_text"])
    text = np.array([result.text[0] for result in results])[:columns]
    agent = np.array([result.agent[0] for result in results]).T[:, :columns]
    pcm = np.concatenate([result.pcm[0] for result in results])[: len(expected["agent_pcm"])]
    rows = min(len(logits), len(expected["lm_text_logits"]))
    return (
        int((text != expected["lm_text"]).sum()),
        int((agent != expected["lm_audio"]).sum()),
        float(np.abs(np.stack(logits)[:rows] - expected["lm_text_logits"][:rows]).max()),
        float(np.abs(pcm - expected["agent_pcm"]).max()),
    )


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="+", metavar="DIR")
    table = Table("checkpoint", "codes ≠", "codec audio", "text ≠", "agent codes ≠", "logits", "agent audio")
    torch.set_grad_enabled(mode=False)
    for folder in parser.parse_args().folders:
        expected = load_file(Path(folder) / "expected.safetensors")
        model = load(folder)
        codes, audio = compare_codec(model, expected)
        text, agent, logits, voice = compare_dialogue(model, expected)
        table.add_row(
            Path(folder).name, str(codes), f"{audio:.1e}", str(text), str(agent), f"{logits:.1e}", f"{voice:.1e}"
        )
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
