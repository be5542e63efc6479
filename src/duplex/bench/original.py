"""Benchmark of the original ``moshi`` package on the same weights and machine, for comparison."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import attrs

from duplex.bench import original_worker
from duplex.bench.timing import Percentiles
from duplex.checkpoints.checkpoint import Checkpoint
from duplex.checkpoints.conditioning import FuserConfig
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.errors import DuplexError, UsageError
from duplex.options import SessionOptions

__all__ = ["OriginalTimes", "model_arguments", "time_original"]

FUSES_NOTHING = attrs.asdict(FuserConfig())
LONGEST_ERROR = 300
"""Characters of its error message."""


@attrs.frozen(kw_only=True)
class OriginalTimes:
    """The original's times for a frame; ``step`` is that of the language model, ``None`` for the codec alone."""

    version: str
    torch: str
    encode: Percentiles
    step: Percentiles | None
    decode: Percentiles
    total: Percentiles

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        stages = {"encode_ms": self.encode, "step_ms": self.step, "decode_ms": self.decode, "total_ms": self.total}
        result = {name: times.as_json() for name, times in stages.items() if times is not None}
        return {"version": self.version, "torch": self.torch, **result}


def time_original(
    python: Path, checkpoint: Checkpoint, *, frames: int, device: str, dtype: str, codec_only: bool
) -> OriginalTimes:
    """Time the package ``moshi`` in the environment of ``python``, on CPU or CUDA, with one session.

    :raises UsageError: if that interpreter cannot be run
    """
    given: dict[str, Any] = {
        "weights": None,
        "mimi_weights": str(checkpoint.mimi_weights),
        "mimi_config": attrs.asdict(checkpoint.mimi),
        "codebooks": checkpoint.codebooks,
        "frame_size": checkpoint.mimi.frame_size,
        "frames": frames,
        "device": device,
        "dtype": dtype,
    }
    if not codec_only and checkpoint.language_model is not None:
        given["weights"] = str(checkpoint.weights)
        given["lm_config"] = model_arguments(checkpoint.language_model)
        given["sampling"] = _sampling(checkpoint.defaults)
    try:
        ended = subprocess.run(  # noqa: S603 -- the interpreter that the user gave
            [str(python), original_worker.__file__, json.dumps(given)],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"NO_TORCH_COMPILE": "1"},
        )
    except OSError as error:
        raise UsageError(f"{python} cannot be run ({error.strerror}); give the python of an environment") from None
    if ended.returncode:
        last = ended.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise DuplexError(
            f"the original package failed in {python}: {last[0][:LONGEST_ERROR]}; is `moshi` installed there?"
        )
    return _times(json.loads(ended.stdout.splitlines()[-1]), spoken=given["weights"] is not None)


def model_arguments(config: LanguageModelConfig) -> dict[str, Any]:
    """Return a configuration as the original's model takes it: without the kind, which its loader reads and keeps."""
    given = attrs.asdict(config, filter=lambda _, value: value is not None)
    if len(config.depformer_dim_feedforward or ()) == 1:  # of every step, which the original has as a number alone
        given["depformer_dim_feedforward"] = given["depformer_dim_feedforward"][0]
    return {key: value for key, value in given.items() if key != "model_type" and value not in ({}, FUSES_NOTHING)}


def _sampling(options: SessionOptions) -> dict[str, Any]:
    """Return the sampling options by the original's names."""
    if options.greedy or not options.temperature:
        return {"use_sampling": False}
    names = {"temperature": "temp", "text_temperature": "temp_text", "top_k": "top_k", "text_top_k": "top_k_text"}
    return {theirs: getattr(options, ours) for ours, theirs in names.items()}


def _times(result: dict[str, Any], *, spoken: bool) -> OriginalTimes:
    encode, step, decode = (result["seconds"][name] for name in ("encode", "step", "decode"))
    return OriginalTimes(
        version=result["version"],
        torch=result["torch"],
        encode=Percentiles.of(encode),
        step=Percentiles.of(step) if spoken else None,
        decode=Percentiles.of(decode),
        total=Percentiles.of([sum(frame) for frame in zip(encode, step, decode, strict=True)]),
    )
