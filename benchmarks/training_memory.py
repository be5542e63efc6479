"""Does a training take the memory that is predicted? Trains adapters for a few steps, each in a process of its own.

    python benchmarks/random_model.py --out DIR --shape 300m
    python benchmarks/training_memory.py --model DIR [--cases 128,1,1250,bfloat16 ...] [--stages]

A case is the adapter's rank, the segments of a batch, the frames of a segment, and what the model is held in; or ``0``
and the other two, for a training of the whole model. What is used is the process's largest resident size, of weights,
programs and all; on a GPU what torch has allocated at most. ``--stages`` tells it for each stage (Linux).
"""

import argparse
import contextlib
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from duplex.checkpoints.checkpoint import Checkpoint, resolve
from duplex.training import trainer
from duplex.training.dialogues import DialogueTokens, SpecialTokens
from duplex.training.dialogues.plan import TOKENIZER
from duplex.training.dialogues.shards import Provenance, codec_fingerprint, fingerprint, write_dialogues
from duplex.training.language_model import (
    LanguageModelSettings,
    LoraSettings,
    TrainingMemory,
    loop,
    samples,
    train_language_model,
)

CASES = ("128,1,1250,bfloat16", "32,2,500,bfloat16", "64,1,750,int8")
STEPS = 2
GB = 1e9


def settings_of(model: str, case: str) -> LanguageModelSettings:
    """Return the settings of a case."""
    rank, batch, frames, *base = case.split(",")
    sizes: dict[str, Any] = {"batch": int(batch), "frames": int(frames), "steps": STEPS}
    if int(rank) == 0:
        return LanguageModelSettings(start_from=model, **sizes)
    lora: Any = {"rank": int(rank), "base": base[0]}
    return LanguageModelSettings.fine_tuning(model, LoraSettings(**lora), accumulate=2, **sizes)


def write_noise(model: Checkpoint, folder: Path, frames: int) -> None:
    """Write dialogues of random tokens, as of the model's codec and tokenizer."""
    shape = model.language_model
    if shape is None or model.tokenizer is None:
        sys.exit(f"{model.name} is a codec alone; give a dialogue model")
    (folder / TOKENIZER).write_bytes(model.tokenizer.read_bytes())
    rng, codebooks = np.random.default_rng(0), shape.n_q // 2
    marks = SpecialTokens(shape.existing_text_padding_id, shape.existing_text_end_padding_id)
    provenance = Provenance(
        codec=codec_fingerprint(resolve(model.name, parts=("codec",))),
        tokenizer=fingerprint(folder / TOKENIZER),
        codebooks=codebooks,
        vocabulary=shape.card,
        text_vocabulary=shape.text_card,
        frame_rate=12.5,
        marks=marks,
    )
    dialogues = [
        DialogueTokens(
            text=rng.integers(4, shape.text_card, frames),
            agent=rng.integers(0, shape.card, (codebooks, frames)),
            user=rng.integers(0, shape.card, (codebooks, frames)),
            user_text=rng.integers(4, shape.text_card, frames),
        )
        for _ in range(3)
    ]
    write_dialogues(folder / "noise.safetensors", dialogues, provenance)


def peak_memory() -> float:
    """Return the largest resident size so far, in GB."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GB  # macOS counts bytes
    fields = dict(line.split(":", 1) for line in status.read_text(encoding="ascii").splitlines() if ":" in line)
    return 1024 * int(fields["VmHWM"].split()[0]) / GB


class Stages:
    """The largest resident size in each stage of a training."""

    def __init__(self) -> None:
        self.peaks: dict[str, float] = {}

    def watch(self, owner: Any, method: str, name: str) -> None:
        """Have a method be a stage."""
        made: Callable[..., Any] = getattr(owner, method)

        def watched(*given: Any, **options: Any) -> Any:
            with self.stage(name):
                return made(*given, **options)

        setattr(owner, method, watched)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Note the largest resident size of what is done meanwhile."""
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget what it was before
        yield
        self.peaks[name] = max(self.peaks.get(name, 0.0), peak_memory())
        print(f"{name}: {self.peaks[name]:.2f} GB", file=sys.stderr, flush=True)


def measure(model: str, case: str, *, stages: bool) -> dict[str, Any]:
    """Train; return what was predicted and what was used, in GB."""
    settings, told = settings_of(model, case), list[TrainingMemory]()
    watched = Stages()
    trainer.LOG_EVERY, loop.VALIDATION_BATCHES, samples.LONGEST = 1, 1, 25  # more of it takes no more memory
    if stages:
        for method, name in (("_backward", "forward and backward"), ("_make_step", "step"), ("_logged", "validation")):
            watched.watch(trainer.Trainer, method, name)
        watched.watch(trainer.Trainer, "resume", "loaded")
        watched.watch(trainer.Trainer, "_save", "checkpoint")
        watched.watch(loop._LanguageModelTrainer, "write_outputs", "samples")
    with tempfile.TemporaryDirectory() as folder:
        write_noise(resolve(model), Path(folder), settings.frames + 1)
        train_language_model(Path(folder), Path(folder) / "run", settings, told=told.append)
    used = torch.cuda.max_memory_allocated() / GB if torch.cuda.is_available() else peak_memory()
    used = max(used, *watched.peaks.values()) if stages else used
    return {"predicted": told[0].total / GB, "parts": str(told[0]), "used": used, "stages": watched.peaks}


def main() -> None:
    """Measure each case and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--cases", nargs="+", default=CASES, metavar="RANK,BATCH,FRAMES,BASE")
    parser.add_argument("--stages", action="store_true")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        print(json.dumps(measure(given.model, given.worker, stages=given.stages)))
        return
    table = Table("rank, batch, frames, base", "predicted, GB", "used, GB", "off by, %", "parts, and stages")
    for case in given.cases:
        ended = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], "--worker", case], stdout=subprocess.PIPE, text=True, check=True
        )
        found = json.loads(ended.stdout.splitlines()[-1])
        predicted, used = found["predicted"], found["used"]
        stages = "".join(f"\n{name}: {size:.2f}" for name, size in found["stages"].items())
        off = f"{100 * (predicted / used - 1):+.0f}"
        table.add_row(case, f"{predicted:.2f}", f"{used:.2f}", off, found["parts"] + stages)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
