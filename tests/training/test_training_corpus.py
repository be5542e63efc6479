"""Shards on disk: which ones there shall be, how they are made, and what is wrong with them."""

import collections
import errno
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from cli_support import RATE, files_below
from duplex.errors import CorpusError, MissingDependencyError, OutputError, UsageError
from duplex.training.data.build import build
from duplex.training.data.corpus import Corpus, read_shard, write_shard
from duplex.training.data.plan import SpeechJob, plan
from duplex.training.data.sources import NoiseSource, SpokenSource
from duplex.training.data.voices import TRAINING_VOICES, Voice
from training_support import WIDTH, harmonics, some_corpus, some_shard

SPEAKER = Voice(name="m3", engine="espeak", variants=("en-us+m3",))

# On disk


@pytest.mark.parametrize("taught", [True, False])
def test_a_shard_is_read_as_it_was_written(tmp_path, taught):
    written = some_shard(taught=taught)
    write_shard(tmp_path / "a.safetensors", written)
    read = read_shard(tmp_path / "a.safetensors")
    plain = {"voice", "role", "sample_rate", "utterances"}
    assert {name: getattr(read, name) for name in plain} == {name: getattr(written, name) for name in plain}
    assert read.pcm.dtype == np.int16
    assert np.array_equal(read.pcm, written.pcm)
    assert np.array_equal(read.targets, written.targets) if taught else read.targets is None
    assert read.seconds == 4
    assert files_below(tmp_path) == ["a.safetensors"]


def test_a_corpus(tmp_path):
    corpus = Corpus.open(some_corpus(tmp_path / "data"), RATE)
    assert [(shard.voice, shard.role) for shard in corpus.shards] == [("heart", "agent")] * 2 + [("slt", "user")] * 2
    assert (corpus.seconds, corpus.teacher_width) == (16, WIDTH)
    assert Corpus.open(some_corpus(tmp_path / "untaught", taught=False), RATE).teacher_width == 0


def test_a_full_disk_leaves_the_old_shard_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    write_shard(path, some_shard())
    before = path.read_bytes()
    write = Path.write_bytes

    def refuse(self, data):
        write(self, data[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(OutputError, match="the disk is full"):
        write_shard(path, some_shard(seed=1))
    assert path.read_bytes() == before
    assert files_below(tmp_path) == ["a.safetensors"]


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-1000])


def text(path):
    path.write_text("dear diary\n" * 1000)


def empty(path):
    path.write_bytes(b"")


def something_else(path):
    save_file({"pcm": np.zeros(24000, np.int16)}, path)


def floating(path):
    write_shard(path, some_shard(pcm=harmonics(1.0)))


def of_another_rate(path):
    write_shard(path, some_shard(sample_rate=16000))


def silent(path):
    write_shard(path, some_shard(pcm=np.full(RATE, 30, np.int16)))


def without_samples(path):
    write_shard(path, some_shard(pcm=np.zeros(0, np.int16), targets=np.zeros((0, WIDTH), np.float16)))


def told_nan(path):
    shard = some_shard()
    shard.targets[3, 2] = np.nan
    write_shard(path, shard)


def without_a_teacher(path):
    write_shard(path, some_shard(taught=False))


@pytest.mark.parametrize(
    ("spoil", "words", "named"),
    [
        (cut_short, "is not a readable shard", True),
        (text, "is not a readable shard", True),
        (empty, "is not a readable shard", True),
        (something_else, "is not a readable shard", True),
        (floating, "holds float32", True),
        (of_another_rate, "has sound of 16000 Hz, but the codec takes 24000 Hz", True),
        (silent, "is silent", True),
        (without_samples, "is silent", True),
        (told_nan, "has features that are not finite", True),
        (without_a_teacher, "has shards with and without a teacher's features", False),
    ],
)
def test_a_bad_shard(tmp_path, spoil, words, named):
    bad = some_corpus(tmp_path / "data") / "slt-0002.safetensors"
    spoil(bad)
    with pytest.raises(CorpusError, match=words) as caught:
        Corpus.open(tmp_path / "data", RATE)
    assert str(bad if named else tmp_path / "data") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_corpus(tmp_path):
    for folder, words in ((tmp_path / "none", "is not a folder"), (tmp_path, "has no shards")):
        with pytest.raises(CorpusError, match=words) as caught:
            Corpus.open(folder, RATE)
        assert f"duplex train data --out {folder}" in str(caught.value)


# The plan


def test_the_plan_has_the_minutes_of_every_voice(tmp_path):
    jobs = plan(tmp_path)
    assert len({job.path for job in jobs}) == len({job.seed for job in jobs}) == len(jobs)
    assert all(job.path.parent == tmp_path and 0 < job.seconds <= 300 for job in jobs)
    minutes = collections.Counter()
    for job in jobs:
        minutes[job.source.voice] += job.seconds / 60
    for voice in TRAINING_VOICES:
        assert minutes[voice.name] == voice.minutes
    assert minutes["noise"] == pytest.approx(0.03 * sum(voice.minutes for voice in TRAINING_VOICES), abs=2.5)
    assert jobs[0].path.name == "heart-0000.safetensors"
    assert not any(tmp_path.iterdir())


def test_scale_and_seed(tmp_path):
    small, whole = plan(tmp_path, scale=0.01), plan(tmp_path)
    assert [job.source.voice for job in small] == [*(voice.name for voice in TRAINING_VOICES), "noise"]
    assert small[0].seconds == pytest.approx(TRAINING_VOICES[0].minutes * 0.6)
    assert {job.path for job in small} <= {job.path for job in whole}
    assert len(plan(tmp_path, scale=2)) == pytest.approx(2 * len(whole), abs=2)
    other = plan(tmp_path, seed=1)
    assert [job.path for job in other] == [job.path for job in whole]
    assert not {job.seed for job in other} & {job.seed for job in whole}
    assert plan(tmp_path) == whole


@pytest.mark.parametrize("scale", [0, -1, math.nan, math.inf])
def test_a_scale_that_cannot_be(tmp_path, scale):
    with pytest.raises(UsageError, match="the scale is"):
        plan(tmp_path, scale=scale)


# Building


def noise_order(folder, index=0, seed=7, seconds=10.0):
    return SpeechJob(path=folder / f"noise-{index:04}.safetensors", source=NoiseSource(), seconds=seconds, seed=seed)


@pytest.mark.parametrize("source", [NoiseSource(), SpokenSource(SPEAKER)], ids=["noise", "espeak"])
def test_a_shard_depends_on_its_order_alone(tmp_path, source):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        SpeechJob(path=tmp_path / f"{name}.safetensors", source=source, seconds=3.0, seed=seed).make()
    first, again, other = ((tmp_path / f"{name}.safetensors").read_bytes() for name in "abc")
    assert first == again
    assert first != other
    shard, *_ = Corpus.open(tmp_path, RATE).shards
    assert shard.targets.shape == (-(-len(shard.pcm) // 1920), 384)
    assert (shard.voice, shard.role, shard.sample_rate) == (source.voice, "user", RATE)


def test_a_build_makes_what_is_missing_and_nothing_else(tmp_path):
    jobs, told = [noise_order(tmp_path / "data", index) for index in range(3)], []
    (tmp_path / "data").mkdir()
    write_shard(jobs[0].path, some_shard())
    before = jobs[0].path.read_bytes()
    assert build(jobs, workers=1, progress=lambda *counts: told.append(counts)) == 2
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert jobs[0].path.read_bytes() == before
    assert jobs[1].path.read_bytes() == jobs[2].path.read_bytes()  # as they were ordered alike
    assert files_below(tmp_path) == [f"data/noise-000{index}.safetensors" for index in range(3)]

    times = [job.path.stat().st_mtime_ns for job in jobs]
    assert build(jobs, progress=lambda *counts: told.append(counts)) == 0
    assert told[3:] == [(3, 3)]
    assert [job.path.stat().st_mtime_ns for job in jobs] == times


def test_a_build_says_what_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    job = SpeechJob(path=tmp_path / "data" / "a.safetensors", source=SpokenSource(SPEAKER), seconds=3.0, seed=0)
    with pytest.raises(MissingDependencyError, match=r"apt-get install espeak-ng$"):
        build([job])
    assert not files_below(tmp_path)


def test_a_disk_without_room(tmp_path, monkeypatch):
    Usage = collections.namedtuple("Usage", "total used free")  # noqa: PYI024 -- as the library has it
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 10**12 - 10**9, 10**9))
    with pytest.raises(OutputError, match=r"has 1\.0 GB free, but the data takes 1\.\d GB.*--scale"):
        build(plan(tmp_path / "data"))
    assert not files_below(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 10**12, 0))
    job = noise_order(tmp_path)
    write_shard(job.path, some_shard())
    assert build([job]) == 0  # what is there needs no room


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "data").write_text("mine")
    with pytest.raises(OutputError, match="is a file, not a folder"):
        build([noise_order(tmp_path / "data")])
