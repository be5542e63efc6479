"""Training of a very small codec from beginning to end: what is learnt, what is written, and how a run goes on."""

import csv
import json
import math
import os
import signal
import threading

import attrs
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cli_support import files_below, read_wav
from duplex.checkpoints.layout import MIMI_CONFIG, MIMI_WEIGHTS
from duplex.errors import CheckpointError, ConfigError
from duplex.training.codec.training_module import MimiTrainingModule
from duplex.training.run_folder import RunFolder
from training_support import FRAME, QUICK, SHAPE, checkpoint, in_step, shorten, some_corpus, train

STEPS = QUICK.steps


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return some_corpus(tmp_path_factory.mktemp("data") / "data")


@pytest.fixture(autouse=True)
def short_runs(monkeypatch):
    shorten(monkeypatch)


@pytest.fixture(autouse=True)
def interruptible():
    """What a shell runs in the background inherits that SIGINT is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def same(first, second):
    """Whether two states hold the same numbers; names the first that differs."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        return all(same(value, second[key]) or pytest.fail(f"'{key}' differs") for key, value in first.items())
    if isinstance(first, list):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """The folder of a run that nobody interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch, plots=True)
        plot = RunFolder.plot
        patch.setattr(
            RunFolder, "plot", lambda run: plot(run) if (out / f"samples/step-{STEPS:06}.wav").exists() else None
        )
        train(data, out)
    return out


# What is learnt and written


def test_a_run_writes_everything_that_it_promises(whole):
    every = [f"samples/step-{step:06}.wav" for step in range(1, STEPS + 1)]
    plain = ["checkpoint.pt", f"codec/{MIMI_CONFIG}", f"codec/{MIMI_WEIGHTS}", "losses.csv", "losses.png", "run.json"]
    assert files_below(whole) == sorted([*plain, *every])
    assert read_wav(whole / every[-1]).shape == (2 * 2 * 4 * FRAME, 1)  # two crops, each before and after
    assert (whole / "losses.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    with (whole / "losses.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [3, 6, 9, 12]
    assert all(math.isfinite(float(row[name])) for row in rows for name in ("total", "teacher_first"))
    assert math.isfinite(float(rows[-1]["mel"]))
    assert float(rows[0]["commitment"]) == 0 < float(rows[-1]["commitment"])
    assert float(rows[-1]["validation_mel"]) > 0
    assert json.loads((whole / "run.json").read_text())["settings"]["batch"] == 2


@pytest.mark.slow
def test_losses_fall(data, tmp_path):
    settings = attrs.evolve(QUICK, steps=90, plain_steps=30, batch=4, crop_frames=6, warmup=5, learning_rate=3e-3)
    reports = []
    train(data, tmp_path / "run", settings, progress=reports.append)
    assert [report.step for report in reports] == list(range(3, 91, 3))
    assert {report.steps for report in reports} == {90}
    assert all(report.speed > 0 for report in reports)
    assert [report.step for report in reports if "mel" not in report.losses] == list(range(3, 31, 3))
    sounding = [report.losses["mel"] for report in reports if "mel" in report.losses]
    assert np.mean(sounding[-3:]) < 0.9 * np.mean(sounding[:2])
    for name, share in (("spectrum_told", 0.85), ("spectrum_heard", 0.85)):
        first, last = (np.mean([report.losses[name] for report in part]) for part in (reports[:2], reports[-5:]))
        assert last < share * first, name


def test_the_seed_changes_the_run(data, whole, tmp_path):
    train(data, tmp_path / "run", attrs.evolve(QUICK, seed=1))
    first, second = (checkpoint(out)["model"] for out in (whole, tmp_path / "run"))
    assert not any(torch.equal(first[name], second[name]) for name in first if name.endswith("weight.original1"))


def test_without_a_teacher(tmp_path):
    data, reports = some_corpus(tmp_path / "data", taught=False), []
    train(data, tmp_path / "run", attrs.evolve(QUICK, steps=6), progress=reports.append)
    assert not any("teacher" in name for name in reports[-1].losses)


# How a run goes on


def test_everything_depends_on_the_seed_and_the_step_alone(data, whole, tmp_path):
    torch.manual_seed(99)
    train(data, tmp_path / "run")
    assert same(checkpoint(whole), checkpoint(tmp_path / "run"))


def signalled(number):
    return lambda *_: os.kill(os.getpid(), number)


def interrupt(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [2, 5, 11])
def test_a_signal_waits_for_the_end_of_the_step(data, whole, tmp_path, monkeypatch, number, step):
    out, before = tmp_path / "run", signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(MimiTrainingModule, "forward", in_step(step, signalled(number)))
        with pytest.raises(KeyboardInterrupt):
            train(data, out)
    assert checkpoint(out)["step"] == step
    assert signal.getsignal(number) == before
    train(data, out)
    assert same(checkpoint(whole), checkpoint(out))
    losses = [(folder / "losses.csv").read_text().splitlines() for folder in (whole, out)]
    assert len(losses[0]) == len(losses[1])
    assert losses[0][-1] == losses[1][-1] or step >= 10  # a row is the mean of the steps since the program started


def test_a_second_signal_does_not_wait(data, tmp_path, monkeypatch):
    def twice():
        signalled(signal.SIGINT)()
        signalled(signal.SIGINT)()

    monkeypatch.setattr(MimiTrainingModule, "forward", in_step(5, twice))
    with pytest.raises(KeyboardInterrupt):
        train(data, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


@pytest.mark.parametrize("where", ["step", "progress"])
def test_a_run_that_died_goes_on_at_its_last_checkpoint(data, whole, tmp_path, monkeypatch, where):
    out = tmp_path / "run"

    def die(report):
        if report.step == 9:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if where == "step":
            patch.setattr(MimiTrainingModule, "forward", in_step(9, interrupt))
        with pytest.raises(KeyboardInterrupt):
            train(data, out, save_every=0, progress=die if where == "progress" else None)
    assert checkpoint(out)["step"] == 8
    train(data, out)
    assert same(checkpoint(whole), checkpoint(out))


def test_more_steps_may_be_wanted(data, tmp_path):
    out, reports = tmp_path / "run", []
    train(data, out, attrs.evolve(QUICK, steps=6))
    train(data, out, attrs.evolve(QUICK, steps=9), progress=reports.append)
    assert [report.step for report in reports] == [9]
    train(data, out, attrs.evolve(QUICK, steps=9), progress=reports.append)
    train(data, out, attrs.evolve(QUICK, steps=3), progress=reports.append)
    assert len(reports) == 1
    assert checkpoint(out)["step"] == 9
    assert [line.partition(",")[0] for line in (out / "losses.csv").read_text().splitlines()] == ["step", "3", "6", "9"]


def test_training_in_another_thread(data, tmp_path):
    """Which gets no signals."""
    made = []
    thread = threading.Thread(target=lambda: made.append(train(data, tmp_path / "run", attrs.evolve(QUICK, steps=2))))
    thread.start()
    thread.join()
    assert made == [tmp_path / "run" / "codec"]


# Weights of another codec


def test_weights_are_taken_over(data, whole, tmp_path):
    still = attrs.evolve(QUICK, steps=1, learning_rate=0)
    train(data, tmp_path / "run", still, start_from=whole / "codec")
    before, after = (load_file(out / "codec" / MIMI_WEIGHTS) for out in (whole, tmp_path / "run"))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        moves = name.endswith("embedding_sum")  # codebooks follow what chooses them, whatever the learning rate
        torch.testing.assert_close(tensor, after[name], atol=0.2 if moves else 0, rtol=0)


@pytest.mark.parametrize(("steps", "still"), [(3, True), (5, False)])
def test_heads_learn_to_read_a_codec_before_it_learns_from_them(data, whole, tmp_path, steps, still):
    chosen = attrs.evolve(QUICK, steps=steps, reading_steps=3)
    train(data, tmp_path / "run", chosen, start_from=whole / "codec")
    before, after = (load_file(out / "codec" / MIMI_WEIGHTS) for out in (whole, tmp_path / "run"))
    weights = [name for name in before if "_codebook" not in name]
    assert all(torch.equal(before[name], after[name]) for name in weights) == still


def test_a_codec_that_does_not_fit_or_is_not_there(data, whole, tmp_path):
    other = {**SHAPE, "quantizer": {**SHAPE["quantizer"], "bins": 32}}
    with pytest.raises(ConfigError, match=r"holds a codec of another configuration; .*--config"):
        train(data, tmp_path / "run", config=other, start_from=whole / "codec")
    with pytest.raises(CheckpointError, match=MIMI_CONFIG):
        train(data, tmp_path / "other", config=other, start_from=tmp_path / "none")
    assert not list(tmp_path.rglob("checkpoint.pt"))


def test_a_mistake_at_the_start_can_be_mended(data, whole, tmp_path):
    with pytest.raises(CheckpointError):
        train(data, tmp_path / "run", start_from=whole)  # not whole / "codec"
    train(data, tmp_path / "run", attrs.evolve(QUICK, steps=1), start_from=whole / "codec")
