"""Recordings as training data: what is taken, how it is cut, and what is wrong with it."""

import os
import shutil

import attrs
import av
import numpy as np
import pytest

from cli_support import RATE, noise, write_float_wav, write_wav
from duplex.audio.pcm import to_int16
from duplex.errors import AudioFileError, CorpusError
from duplex.training.data import recordings as recordings_module
from duplex.training.data.corpus import Corpus, read_shard, write_shard
from duplex.training.data.recordings import plan_recordings
from training_support import some_shard


def test_recordings(tmp_path):
    write_wav(tmp_path / "in" / "a.wav", noise(2.0))
    write_wav(tmp_path / "in" / "deep" / "a.WAV", noise(3.0, channels=2, seed=1))
    (tmp_path / "in" / "notes.txt").write_text("mine")
    jobs = plan_recordings(tmp_path / "in", tmp_path / "out", role="agent")
    assert [job.seconds for job in jobs] == [2, 3]
    assert len({job.path for job in jobs}) == 2
    assert all(job.path.parent == tmp_path / "out" and job.path.name.startswith("a-") for job in jobs)
    assert {job.source.role for job in jobs} == {"agent"}
    sound = jobs[0].source.make(2.0, np.random.default_rng(0))
    assert np.array_equal(sound.noisy, sound.clean)
    np.testing.assert_allclose(sound.noisy, noise(2.0)[:, 0], atol=1e-4)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("seconds", [6.8, 7.0, 7.3])
def test_a_long_recording_is_cut_without_a_gap(tmp_path, monkeypatch, seconds):
    monkeypatch.setattr(recordings_module, "SHARD_SECONDS", 2)
    write_wav(tmp_path / "in" / "a.wav", noise(seconds))
    jobs = plan_recordings(tmp_path / "in", tmp_path)
    assert len({job.path for job in jobs}) == len(jobs) >= 3
    pieces = [job.source.make(job.seconds, np.random.default_rng(0)).noisy for job in jobs]
    joined = np.concatenate(pieces)
    assert len(joined) == round(seconds * RATE)
    np.testing.assert_allclose(joined, noise(seconds)[:, 0], atol=1e-4)


@pytest.mark.parametrize("silent", [slice(2 * RATE, 4 * RATE), slice(6 * RATE, None)], ids=["middle", "end"])
def test_a_pause_in_a_recording_makes_no_shard_that_is_refused(tmp_path, monkeypatch, silent):
    monkeypatch.setattr(recordings_module, "SHARD_SECONDS", 2)
    pcm = noise(6.5)
    pcm[silent] = 0
    write_wav(tmp_path / "in" / "a.wav", pcm)
    for job in plan_recordings(tmp_path / "in", tmp_path):
        sound = job.source.make(job.seconds, np.random.default_rng(0))
        write_shard(job.path, some_shard(pcm=to_int16(sound.noisy), taught=False))
    Corpus.open(tmp_path, RATE)


def test_recordings_of_other_rates_are_converted_if_that_is_wanted(tmp_path):
    tone = np.sin(2 * np.pi * 440 * np.arange(3 * 48000) / 48000).astype(np.float32) / 4
    write_wav(tmp_path / "in" / "a.wav", tone, 48000)
    write_wav(tmp_path / "in" / "b.wav", tone, 16000)
    jobs = plan_recordings(tmp_path / "in", tmp_path, resample=True)
    assert [job.seconds for job in jobs] == pytest.approx([3, 9], abs=0.001)
    for job, pitch in zip(jobs, (440, 440 / 3), strict=True):
        heard = job.source.make(2.0, np.random.default_rng(0)).noisy
        assert len(heard) == 2 * RATE
        assert np.argmax(np.abs(np.fft.rfft(heard))) / 2 == pytest.approx(pitch, abs=0.5)


def text(path):
    path.write_text("dear diary\n" * 1000)


def empty(path):
    path.write_bytes(b"")


def of_another_rate(path):
    write_wav(path, noise(2.0), 48000)


def silent(path):
    write_wav(path, 0.001 * noise(2.0))


def short(path):
    write_wav(path, noise(0.9))


def without_samples(path):
    write_wav(path, noise(0.0))


def not_a_number(path):
    pcm = noise(2.0)[:, 0]
    pcm[30000] = np.nan
    write_float_wav(path, pcm)


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (of_another_rate, CorpusError, "a sample rate of 48000 Hz, and .* 24000 Hz; .*--resample"),
        (silent, CorpusError, "is silent"),
        (short, CorpusError, "is 0.90 s long"),
        (without_samples, AudioFileError, "without samples"),
        (not_a_number, AudioFileError, "NaN or infinity at 1.25 s"),
        (text, AudioFileError, "is not a recording that can be read"),
        (empty, AudioFileError, "is empty"),
    ],
)
def test_a_bad_recording(tmp_path, make, kind, words):
    write_wav(tmp_path / "a.wav", noise(2.0))
    make(tmp_path / "b.wav")
    with pytest.raises(kind, match=words) as caught:
        plan_recordings(tmp_path, tmp_path / "out")
    assert str(tmp_path / "b.wav") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_recordings_of_one_other_rate(tmp_path):
    write_wav(tmp_path / "a.wav", noise(2.0), 16000)
    with pytest.raises(CorpusError, match=r"a sample rate of 16000 Hz; .* to 24000 Hz, .*--resample"):
        plan_recordings(tmp_path, tmp_path / "out")


def test_no_recordings(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for folder, words in ((tmp_path / "none", "is not a folder"), (tmp_path, r"has no recordings \(.*\.wav")):
        with pytest.raises(CorpusError, match=words):
            plan_recordings(folder, tmp_path / "out")


def test_a_name_that_is_no_text(tmp_path):
    """As in `duplex process`, it keeps no recording from being heard."""
    path = os.fsencode(tmp_path) + b"/caf\xe9.wav"
    try:
        shutil.copy(write_wav(tmp_path / "a" / "a.wav", noise(2.0)), path)
    except OSError:
        pytest.skip("names are text on this system")
    _, job = plan_recordings(tmp_path, tmp_path / "out")
    assert job.seconds == 2
    assert len(job.source.make(2.0, np.random.default_rng(0)).noisy) == 2 * RATE
    write_shard(tmp_path / "a.safetensors", attrs.evolve(some_shard(), voice=job.source.voice))
    assert read_shard(tmp_path / "a.safetensors").voice == job.source.voice


def test_a_title_in_an_old_encoding(tmp_path):
    path = tmp_path / "a.wav"
    with av.open(str(path), "w", format="wav") as output:
        output.metadata["title"] = "Caf?"
        stream = output.add_stream("pcm_s16le", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.rint(noise(2.0) * 2**15).astype(np.int16).T, "s16", "mono")
        frame.sample_rate = RATE
        output.mux(stream.encode(frame))
    path.write_bytes(path.read_bytes().replace(b"Caf?", b"Caf\xe9"))
    (job,) = plan_recordings(tmp_path, tmp_path / "out")
    assert job.seconds == 2
