"""What may go wrong in a run: one clear error, and a checkpoint that is still good. And a run of several processes."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch

from cli_support import files_below
from duplex.errors import ConfigError, CorpusError, MissingDependencyError, OutputError, TrainingError, UsageError
from duplex.training.codec.losses import MultiScaleMelLoss
from duplex.training.data.corpus import write_shard
from training_support import QUICK, SHAPE, checkpoint, shorten, some_corpus, some_shard, train

SHORT = attrs.evolve(QUICK, steps=6)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return some_corpus(tmp_path_factory.mktemp("data") / "data")


@pytest.fixture(autouse=True)
def short_runs(monkeypatch):
    shorten(monkeypatch)


@pytest.fixture(scope="module")
def half(data, tmp_path_factory):
    """The folder of a run of 6 steps."""
    out = tmp_path_factory.mktemp("half") / "run"
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch)
        train(data, out, SHORT)
    return out


@pytest.fixture
def out(half, tmp_path):
    """A copy of it, to go on with."""
    return Path(shutil.copytree(half, tmp_path / "run"))


def contents(folder):
    return {path: (folder / path).read_bytes() for path in files_below(folder)}


# The folder


@pytest.mark.parametrize(
    ("changes", "options", "key"),
    [
        ({"seed": 3}, {}, "seed"),
        ({"learning_rate": 1e-3}, {}, "learning_rate"),
        ({}, {"config": {**SHAPE, "transformer": {**SHAPE["transformer"], "context": 25}}}, "context"),
    ],
)
def test_another_run(data, half, changes, options, key):
    before = contents(half)
    with pytest.raises(TrainingError, match=r"holds another run: its '.*choose another --out") as caught:
        train(data, half, attrs.evolve(SHORT, **changes), **options)
    assert key in str(caught.value)
    assert contents(half) == before


@pytest.mark.parametrize("change", ["is new", "is no longer", "has another size"])
def test_a_run_goes_on_only_with_the_data_that_it_was_begun_on(data, out, tmp_path, change):
    """Of other data the same steps would draw other batches."""
    other = Path(shutil.copytree(data, tmp_path / "other"))
    train(other, out, attrs.evolve(SHORT, steps=7))  # where the data lies does not matter
    if change == "is no longer":
        (other / "slt-0003.safetensors").unlink()
    else:
        write_shard(other / f"slt-000{4 if change == 'is new' else 3}.safetensors", some_shard(seconds=5, voice="slt"))
    before = contents(out)
    told = rf"holds a run on other data: slt-000[34]\.safetensors {change} in .*other; .* choose another --out"
    with pytest.raises(TrainingError, match=told):
        train(other, out, QUICK)
    assert contents(out) == before


def test_a_run_that_was_begun_before_data_was_noted_goes_on(data, out):
    run = json.loads((out / "run.json").read_text())
    assert run.pop("shards").keys() == {path.name for path in data.iterdir()}
    (out / "run.json").write_text(json.dumps(run))
    train(data, out, attrs.evolve(SHORT, steps=7))
    assert checkpoint(out)["step"] == 7


def test_a_folder_of_something_else(data, tmp_path):
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(TrainingError, match=r"run\.json cannot be read .*remove the folder"):
        train(data, tmp_path, SHORT)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="is a file, not a folder"):
        train(data, tmp_path / "file", SHORT)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-1000])


def text(path):
    path.write_text("dear diary\n" * 1000)


def empty(path):
    path.write_bytes(b"")


def something_else(path):
    torch.save({"a": torch.zeros(3)}, path)


@pytest.mark.parametrize("spoil", [cut_short, text, empty, something_else])
def test_a_damaged_checkpoint(data, out, spoil):
    spoil(out / "checkpoint.pt")
    before = contents(out)
    with pytest.raises(TrainingError, match=r"checkpoint\.pt cannot be read .*remove it to begin again") as caught:
        train(data, out)
    assert "\n" not in str(caught.value)
    assert contents(out) == before
    (out / "checkpoint.pt").unlink()
    train(data, out, attrs.evolve(QUICK, steps=1))


def test_a_damaged_log(data, out):
    (out / "losses.csv").write_text("dear diary\nof today\n")
    with pytest.raises(TrainingError, match=r"losses\.csv cannot be read"):
        train(data, out)


def test_old_losses_stay_and_later_ones_go(data, out):
    lines = (out / "losses.csv").read_text().splitlines()
    (out / "losses.csv").write_text("\n".join([*lines, lines[-1].replace("6,", "8,", 1)]))  # written, and then died
    train(data, out)
    rows = (out / "losses.csv").read_text().splitlines()
    assert rows[:3] == lines
    assert [row.partition(",")[0] for row in rows[1:]] == ["3", "6", "9", "12"]


# The disk


def refuse(_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk(data, out, monkeypatch):
    """As it is told when what was written shall be on the disk."""
    saved, long = (out / "checkpoint.pt").read_bytes(), attrs.evolve(QUICK, steps=1000)  # nothing else is written soon
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(OutputError, match=r"checkpoint\.pt cannot be written: the disk is full"):
            train(data, out, long, save_every=0)
    assert (out / "checkpoint.pt").read_bytes() == saved
    assert not list(out.rglob("*.part"))
    train(data, out)
    assert checkpoint(out)["step"] == 12


def test_files_that_may_not_grow(data, out):
    """As at a full disk, the refusal comes from the system while the checkpoint is written."""
    resource = pytest.importorskip("resource")
    saved, before = (out / "checkpoint.pt").read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    long = attrs.evolve(QUICK, steps=1000)

    def limit(_):
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(saved) // 2, before[1]))

    try:
        with pytest.raises(OutputError, match=r"checkpoint\.pt cannot be written"):
            train(data, out, long, save_every=0, progress=limit)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert checkpoint(out)["step"] == 8
    assert not list(out.rglob("*.part"))


# Numbers


def test_losses_that_are_not_finite(data, out, monkeypatch):
    compute = MultiScaleMelLoss.forward
    with monkeypatch.context() as patch:
        patch.setattr(
            MultiScaleMelLoss, "forward", lambda *given: compute(*given) * (np.nan if given[1].requires_grad else 1)
        )
        with pytest.raises(TrainingError, match=r"no longer finite at step 6; .*--learning-rate"):
            train(data, out, save_every=0)
    saved = checkpoint(out)
    assert saved["step"] == 6
    assert all(torch.isfinite(tensor).all() for tensor in saved["model"].values())


def test_a_learning_rate_that_is_far_too_high(data, tmp_path):
    """What diverges is told, and never saved."""
    with pytest.raises(TrainingError, match="no longer finite"):
        train(data, tmp_path / "run", attrs.evolve(QUICK, learning_rate=1e12, steps=200), save_every=0)
    saved = checkpoint(tmp_path / "run")
    assert all(torch.isfinite(tensor).all() for tensor in saved["model"].values())


# What is asked for


def test_data_of_another_kind(tmp_path, data):
    with pytest.raises(CorpusError, match="is not a folder; make the data with"):
        train(tmp_path / "none", tmp_path / "run")
    with pytest.raises(CorpusError, match="sound of 24000 Hz, but the codec takes 12000 Hz"):
        train(data, tmp_path / "run", config={**SHAPE, "sample_rate": 12000, "frame_rate": 6.25})
    with pytest.raises(CorpusError, match="has no shard of 51 frames"):
        train(data, tmp_path / "run", attrs.evolve(QUICK, crop_frames=51))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("rate", "ratios"),
    [
        (25, [4, 4, 6, 5]),
        (6.25, [4, 4, 6, 10]),
    ],
)
def test_a_teacher_at_another_frame_rate(tmp_path, data, rate, ratios):
    """Its features are for frames of 80 ms."""
    other = {**SHAPE, "frame_rate": rate, "seanet": {**SHAPE["seanet"], "ratios": ratios}}
    with pytest.raises(CorpusError, match="features"):
        train(data, tmp_path / "run", config=other)


def test_positions_of_less_than_10_ms(tmp_path, data):
    train(data, tmp_path / "run", SHORT, config={**SHAPE, "seanet": {**SHAPE["seanet"], "ratios": [4, 4, 10]}})


def test_a_configuration_that_cannot_be_run(tmp_path, data):
    for wrong in ({"quantizer": {"n_q": 1}}, {"colour": "red"}, {"frame_rate": 13}):
        with pytest.raises(ConfigError, match="the codec's configuration"):
            train(data, tmp_path / "run", config={**SHAPE, **wrong})


@pytest.mark.parametrize("device", ["abacus", "meta", "cuda"])
def test_a_device_that_is_not_here(tmp_path, data, device):
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("it is here")
    with pytest.raises(UsageError, match=f"the device is '{device}'"):
        train(data, tmp_path / "run", device=device)


@pytest.mark.parametrize("seed", [-1, 2**40])
def test_every_seed_can_be_used_or_is_refused(tmp_path, data, seed):
    with contextlib.suppress(UsageError):
        train(data, tmp_path / "run", attrs.evolve(QUICK, steps=1, seed=seed))


def test_without_matplotlib_no_time_is_lost(tmp_path, data, monkeypatch):
    monkeypatch.undo()  # so that it plots
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    reports = []
    with pytest.raises(MissingDependencyError, match=r"pip install .*\[plot\]'$"):
        train(data, tmp_path / "run", attrs.evolve(QUICK, steps=40), progress=reports.append)
    assert not reports


# Several processes

PROCESS = """
import hashlib, sys
from pathlib import Path
import pytest
from duplex.training.trainer import Trainer
from training_support import QUICK, shorten, train

resume = Trainer.resume
trainers = []
Trainer.resume = lambda self: (trainers.append(self), resume(self))[1]
with pytest.MonkeyPatch.context() as patch:
    shorten(patch)
    train(Path(sys.argv[1]), Path(sys.argv[2]), QUICK)
weights = trainers[0].model.state_dict()
print(hashlib.sha256(b"".join(weights[name].numpy().tobytes() for name in sorted(weights))).hexdigest())
"""


@pytest.mark.slow
def test_two_processes_train_one_codec(data, out, tmp_path):
    """Going on with what one process began, they end with the same weights, and one of them writes the files."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    shared["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).parents[1]), str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    line = [sys.executable, "-W", "error", "-c", PROCESS, str(data), str(out)]
    processes = [
        subprocess.Popen(
            line,
            env={**os.environ, **shared, "RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    printed = [process.communicate(timeout=250) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], printed
    assert printed[0][0] == printed[1][0]
    weights = checkpoint(out)["model"]
    digest = hashlib.sha256(b"".join(weights[name].numpy().tobytes() for name in sorted(weights))).hexdigest()
    assert printed[0][0].strip() == digest
    assert checkpoint(out)["step"] == 12
    assert not list(out.rglob("*.part"))
    assert (out / "losses.csv").read_text().count("\n") == 5
    alone = tmp_path / "alone"
    train(data, alone)
    names = [name for name in weights if name.endswith("weight.original1")]
    assert not any(torch.equal(checkpoint(alone)["model"][name], weights[name]) for name in names)
