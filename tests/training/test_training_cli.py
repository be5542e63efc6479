"""``duplex train`` as a user types it, and what it says when something is wrong with what is given."""

import json
import math
import shutil

import numpy as np
import pytest

from cli_support import files_below, noise, run, write_float_wav, write_wav
from duplex.cli.progress import TrainingBar
from duplex.training.data.corpus import read_shard, write_shard
from training_support import SHAPE, harmonics, shorten, some_corpus, some_shard


@pytest.fixture(autouse=True)
def short_runs(monkeypatch):
    shorten(monkeypatch)
    monkeypatch.setattr(TrainingBar, "SECONDS_BETWEEN_LINES", math.inf)  # a slow machine has nothing to say


@pytest.fixture
def config(tmp_path):
    (tmp_path / "small.json").write_text(json.dumps(SHAPE))
    return tmp_path / "small.json"


@pytest.fixture
def data(tmp_path):
    return some_corpus(tmp_path / "data")


def codec(data, out, config, *options):
    return run("train", "codec", "--data", data, "--out", out, "--config", config, "--device", "cpu", *options)


def test_from_recordings_to_a_codec(tmp_path, config):
    """With the teacher, in a process of its own."""
    for seed in range(2):
        write_wav(tmp_path / "in" / f"{seed}.wav", harmonics(3.0, seed=seed))
    arguments = ("train", "data", "--out", tmp_path / "data", "--recordings", tmp_path / "in", "--workers", "1")
    outcome = run(*arguments, "--role", "agent")
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out == f"{tmp_path / 'data'}: 2 shards, 2 of them made now\n"
    shards = [read_shard(path) for path in sorted((tmp_path / "data").iterdir())]
    assert [(shard.voice, shard.role, shard.targets.shape) for shard in shards] == [
        ("0", "agent", (38, 384)),
        ("1", "agent", (38, 384)),
    ]
    assert run(*arguments).out == f"{tmp_path / 'data'}: 2 shards, 0 of them made now\n"

    out = tmp_path / "run"
    outcome = codec(tmp_path / "data", out, config, "--steps", 2, "--batch", 1)
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.splitlines()[0] == f"{out} -> {out / 'codec'}"
    assert str(out / "losses.png") in outcome.out
    assert codec(tmp_path / "data", out, config, "--steps", 3, "--batch", 1).status == 0
    assert (out / "samples" / "step-000003.wav").exists()

    codes = tmp_path / "codes.safetensors"
    assert run("encode", tmp_path / "in" / "0.wav", "--out", codes, "--model", out / "codec").status == 0
    outcome = run("decode", codes, "--out", tmp_path / "back.wav", "--model", out / "codec")
    assert (outcome.status, outcome.err) == (0, "")
    assert (tmp_path / "back.wav").exists()


def test_every_choice_reaches_the_run(tmp_path, data, config):
    options = ("--steps", 1, "--batch", 1, "--learning-rate", 1e-4, "--seed", 5)
    outcome = codec(data, tmp_path / "run", config, *options)
    assert (outcome.status, outcome.err) == (0, "")
    chosen = json.loads((tmp_path / "run" / "run.json").read_text())
    assert {name: chosen["settings"][name] for name in ("batch", "learning_rate", "seed")} == {
        "batch": 1,
        "learning_rate": 1e-4,
        "seed": 5,
    }
    assert chosen["config"] == SHAPE
    again = codec(data, tmp_path / "run", config, *options[:-1], 6)
    assert again.status == 1
    assert "holds another run" in again.only_error()
    start = ("--start-from", tmp_path / "run" / "codec")
    assert codec(data, tmp_path / "other", config, *options, *start).status == 0


@pytest.mark.parametrize("command", [(), ("data",), ("codec",)])
def test_help(command):
    outcome = run("train", *command, "--help")
    assert (outcome.status, outcome.err) == (0, "")
    assert all(len(line) <= 100 for line in outcome.out.splitlines())


def failure(outcome, words, status=1):
    assert outcome.status == status
    assert words in outcome.only_error()
    assert not outcome.out


# Data


@pytest.mark.parametrize("scale", [0, -2, math.nan, math.inf])
def test_a_scale_that_cannot_be(tmp_path, scale):
    failure(run("train", "data", "--out", tmp_path / "out", "--scale", scale), "the scale is", 2)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "wrong", [("--scale", "much"), ("--workers", "0"), ("--role", "host"), ("--seed", "x"), ("--colour", "red")]
)
def test_options_that_cannot_be(tmp_path, wrong):
    outcome = run("train", "data", "--out", tmp_path / "out", *wrong)
    assert outcome.status == 2
    assert wrong[0] in outcome.only_error()


def mixed(folder):
    write_wav(folder / "a.wav", noise(2.0))
    write_wav(folder / "b.wav", noise(2.0), 48000)


def of_another_rate(folder):
    write_wav(folder / "a.wav", noise(2.0), 44100)


def silent(folder):
    write_wav(folder / "a.wav", 0 * noise(2.0))


def short(folder):
    write_wav(folder / "a.wav", noise(0.5))


def not_a_number(folder):
    pcm = noise(2.0)[:, 0]
    pcm[30000] = np.nan
    write_float_wav(folder / "a.wav", pcm)


def text(folder):
    (folder / "a.wav").write_text("dear diary\n" * 1000)


def nothing(folder):
    (folder / "notes.txt").write_text("mine")


def no_folder(folder):
    folder.rmdir()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (mixed, "--resample"),
        (of_another_rate, "--resample"),
        (silent, "is silent"),
        (short, "is 0.50 s long"),
        (not_a_number, "NaN or infinity at 1.25 s"),
        (text, "is not a recording that can be read"),
        (nothing, "has no recordings"),
        (no_folder, "is not a folder"),
    ],
)
def test_bad_recordings(tmp_path, make, words):
    folder = tmp_path / "in"
    folder.mkdir()
    make(folder)
    failure(run("train", "data", "--out", tmp_path / "out", "--recordings", folder), words)
    assert not files_below(tmp_path / "out")


def test_a_place_that_is_taken_or_too_small(tmp_path, monkeypatch):
    (tmp_path / "out").write_text("mine")
    failure(run("train", "data", "--out", tmp_path / "out"), "is a file, not a folder")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**6))
    failure(run("train", "data", "--out", tmp_path / "data"), "make room, choose another folder")
    assert not files_below(tmp_path / "data")


# The codec


def cut_short(folder):
    path = folder / "slt-0002.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def renamed_text(folder):
    (folder / "a.safetensors").write_text("dear diary\n" * 1000)


def silent_shard(folder):
    write_shard(folder / "a.safetensors", some_shard(pcm=np.zeros(24000, np.int16)))


def shard_of_another_rate(folder):
    write_shard(folder / "a.safetensors", some_shard(sample_rate=48000))


def told_nan(folder):
    shard = some_shard()
    shard.targets[0] = np.nan
    write_shard(folder / "a.safetensors", shard)


def untaught(folder):
    write_shard(folder / "a.safetensors", some_shard(taught=False))


def emptied(folder):
    for path in folder.iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (shutil.rmtree, "is not a folder; make the data with: duplex train data --out"),
        (emptied, "has no shards; make the data with: duplex train data --out"),
        (cut_short, "is not a readable shard"),
        (renamed_text, "is not a readable shard"),
        (silent_shard, "is silent"),
        (shard_of_another_rate, "has sound of 48000 Hz"),
        (told_nan, "features that are not finite"),
        (untaught, "with and without a teacher's features"),
    ],
)
def test_bad_data(tmp_path, data, config, spoil, words):
    spoil(data)
    failure(codec(data, tmp_path / "run", config), words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "small.json"),
        ("{", "not valid JSON"),
        ("[1]", "a JSON object is wanted"),
        ('{"colour": "red"}', "colour"),
        ('{"quantizer": {"n_q": "many"}}', "n_q"),
        ('{"quantizer": 3}', "quantizer"),
        ('{"frame_rate": 0}', "frame_rate"),
    ],
)
def test_a_bad_configuration(tmp_path, data, config, text, words):
    config.unlink()
    if text is not None:
        config.write_text(text)
    failure(codec(data, tmp_path / "run", config), words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("wrong", "words", "status"),
    [
        (("--steps", "0"), "--steps", 2),
        (("--batch", "none"), "--batch", 2),
        (("--learning-rate", "-1"), "'learning_rate' is -1.0", 2),
        (("--learning-rate", "nan"), "'learning_rate' is nan", 2),
        (("--seed", "-1"), "seed", 2),
        (("--device", "abacus"), "the device is 'abacus'", 2),
        (("--start-from", "nowhere"), "nowhere", 1),
        (("--decoder",), "give --start-from, and no --config", 2),
        (("--adversarial-steps", "3"), "add --decoder", 2),
    ],
)
def test_a_bad_choice(tmp_path, data, config, wrong, words, status):
    failure(codec(data, tmp_path / "run", config, "--steps", "1", *wrong), words, status)


def test_a_folder_that_cannot_be_used(tmp_path, data, config):
    (tmp_path / "run").write_text("mine")
    failure(codec(data, tmp_path / "run", config), "is a file, not a folder")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "run.json").write_text("{")
    failure(codec(data, tmp_path / "damaged", config), "run.json cannot be read")
