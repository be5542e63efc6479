"""A language model trained by two processes: what each of them sees, and that they learn what one would."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from language_model_support import CONFIG, QUICK, SMALL, model_of, some_data, train
from safetensors.torch import load_file

from cli_support import files_below
from duplex.training.distributed import DistributedContext
from duplex.training.language_model import LoraSettings
from duplex.training.language_model.segments import SegmentSampler
from duplex.training.trainer import Trainer
from training_support import checkpoint, shorten

CPU = torch.device("cpu")
WHOLE = attrs.evolve(QUICK, batch=4, accumulate=2)
HALF = attrs.evolve(WHOLE, batch=2)
WORKER = """
import os, signal, sys
from pathlib import Path
import pytest
from test_training_processes import HALF, in_float32, learn
from duplex.training.language_model.training_module import LanguageModelTrainingModule

data, out, base, interrupted = sys.argv[1:]
compute, calls = LanguageModelTrainingModule.forward, []

def forward(self, *given, **choices):
    calls.append(None)
    if len(calls) == 5:  # in the third step
        signal.raise_signal(signal.SIGINT)
    return compute(self, *given, **choices)

with pytest.MonkeyPatch.context() as patch:
    in_float32(patch)
    if interrupted and os.environ["RANK"] == "1":
        patch.setattr(LanguageModelTrainingModule, "forward", forward)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        learn(Path(data), Path(out), base, HALF)
    except KeyboardInterrupt:
        print("interrupted")
"""


def in_float32(patch):
    """Have sums of the same numbers in another order differ by next to nothing."""
    shorten(patch)
    patch.setattr(Trainer, "autocast", lambda _: torch.autocast("cpu", enabled=False))


def learn(data, out, base, settings):
    """Train a model, or adapters of ``base``."""
    if not base:
        return train(data, out, settings)
    lora = LoraSettings(rank=4, embeddings=True, base="float32")
    return train(data, out, attrs.evolve(settings, start_from=str(base), lora=lora, checkpointing=True), config=None)


def in_two_processes(*command):
    """Run a command as ``torchrun`` does; return what both print."""
    folders = [str(Path(__file__).parents[1]), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    ended = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *map(str, command)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, folders)), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return some_data(tmp_path_factory.mktemp("dialogues"))


@pytest.fixture(scope="module")
def base(data, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch)
        return train(data, tmp_path_factory.mktemp("base") / "run")


def test_two_processes_share_what_one_would_see(data):
    one, half = (SegmentSampler(data, CONFIG, settings) for settings in (WHOLE, HALF))
    for step in range(3):
        parts = [half.batch(step, rank) for rank in range(2)]
        assert np.array_equal(np.concatenate(parts), one.batch(step))
    assert np.array_equal(half.validation(1), one.validation(1)[:2])


def test_what_is_drawn_for_a_segment_does_not_depend_on_whose_it_is():
    whole, *halves = (model_of(HALF) for _ in range(3))
    for rank, module in enumerate(halves):
        module._distributed = DistributedContext(CPU, rank, 2)
    tokens = torch.ones(4, 17, 10).long()
    drawn = [module._mask_inputs(part, unaided=False) for module, part in zip(halves, tokens.chunk(2), strict=True)]
    assert torch.equal(torch.cat(drawn), whole._mask_inputs(tokens, unaided=False))
    frames = [module._sample_frames(2, 10) + 20 * rank for rank, module in enumerate(halves)]
    assert torch.equal(torch.cat(frames), whole._sample_frames(4, 10))


@pytest.mark.slow
@pytest.mark.parametrize("adapted", [False, True])
def test_two_processes_learn_what_one_does_with_twice_the_batch(data, base, tmp_path, adapted):
    """Also if one of them is told to stop in the middle: both do, after the same step, and go on together."""
    alone, together, start = tmp_path / "alone", tmp_path / "together", base if adapted else ""
    with pytest.MonkeyPatch.context() as patch:
        in_float32(patch)
        learn(data, alone, start, WHOLE)
    (tmp_path / "worker.py").write_text(WORKER)
    worker = tmp_path / "worker.py", data, together, start
    assert in_two_processes(*worker, "interrupted").count("interrupted") == 2
    assert checkpoint(together)["step"] == 3
    in_two_processes(*worker, "")
    assert files_below(together) == files_below(alone)
    logs = [list(csv.DictReader((folder / "losses.csv").read_text().splitlines())) for folder in (alone, together)]
    assert [row["step"] for row in logs[0]] == [row["step"] for row in logs[1]] == ["3", "6"]
    for one, two in zip(*logs, strict=True):
        told = {name: float(value) for name, value in one.items() if value and not name.startswith("validation")}
        assert {name: float(two[name]) for name in told} == pytest.approx(told, rel=1e-4)
    first, second = (checkpoint(folder)["model"] for folder in (alone, together))
    for name, tensor in first.items():
        # By their norms: of a gradient near 0 AdamW takes the sign, which another order of sums may change.
        apart = torch.linalg.vector_norm(second[name] - tensor) / torch.linalg.vector_norm(tensor).clamp(min=1)
        assert apart < 1e-3, name


@pytest.mark.slow
def test_the_command_speaks_with_one_voice(data, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    out = tmp_path / "run"
    printed = in_two_processes(
        *("-m", "duplex", "train", "lm", "--data", data, "--out", out, "--config", tmp_path / "config.json"),
        *("--steps", 2, "--batch", 2, "--frames", 16, "--device", "cpu"),
    )
    assert printed.count("memory: about") == printed.count(f"{out} -> {out / 'model'}") == 1
    assert load_file(out / "model" / "model.safetensors")
