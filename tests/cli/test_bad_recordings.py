"""Recordings that cannot be used: one line that says what to do."""

import json
import os
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from bad_input_support import folder, process

from cli_support import (
    SMALL,
    files_below,
    noise,
    read_wav,
    run,
    spawn,
    tokens_of,
    write_float_wav,
    write_wav,
)
from duplex.results.files import RESULT_FILES


def missing(path):
    del path


def empty(path):
    path.touch()


def text(path):
    path.write_text("dear diary\n" * 1000)


def only_a_header(path):
    path.write_bytes(write_wav(path, noise(1.0)).read_bytes()[:20])


def no_samples(path):
    write_wav(path, noise(0.0))


def not_a_number(path):
    pcm = noise(2.0)[:, 0]
    pcm[30000] = np.nan
    write_float_wav(path, pcm)


def infinite(path):
    pcm = noise(2.0)[:, 0]
    pcm[30000] = -np.inf
    write_float_wav(path, pcm)


def silent_video(path):
    with av.open(str(path), "w", format="mp4") as output:
        stream = output.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for index in range(5):
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            frame.pts = index
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def compressed(path, codec, container, channels=1, rate=48000, seconds=2.0):
    layout = {1: "mono", 2: "stereo"}[channels]
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(noise(seconds, channels=channels, rate=rate).T.copy(), "fltp", layout)
        frame.sample_rate = rate
        context = stream.codec_context
        for piece in av.AudioResampler(context.format.name, layout, rate, context.frame_size or 4096).resample(frame):
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
    return path


def truncated_m4a(path):
    path.write_bytes(compressed(path, "aac", "mp4").read_bytes()[:10000])  # without the index at its end


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (missing, "does not exist; check the name"),
        (empty, "is empty; record or copy it again"),
        (folder, "has no recordings in it"),
        (text, "is not a recording that can be read"),
        (only_a_header, "is not a recording that can be read, or was cut short"),
        (no_samples, "without samples"),
        (not_a_number, "NaN or infinity at 1.25 s"),
        (infinite, "NaN or infinity at 1.25 s"),
        (silent_video, "has no sound track"),
        (truncated_m4a, "was cut short"),
    ],
)
def test_a_bad_recording(tmp_path, make, words):
    bad = tmp_path / "in" / "bad.wav"
    bad.parent.mkdir()
    make(bad)
    out = tmp_path / "out"
    outcome = process(bad, out=out)
    assert outcome.status == 1
    assert words in outcome.only_error()
    assert str(bad) in outcome.only_error()
    assert not outcome.out
    assert list(out.iterdir()) == []

    target = tmp_path / "codes.safetensors"
    outcome = run("encode", bad, "--out", target, "--model", SMALL)
    assert outcome.status == 1
    assert words in outcome.only_error() or make is folder
    assert not target.exists()

    good = write_wav(tmp_path / "good.wav", noise(0.2))
    outcome = process(bad, good, out=out)
    assert outcome.status == 1
    assert words in outcome.errors()[0]
    assert files_below(out) == [f"good/{name}" for name in sorted(RESULT_FILES)]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_recording_that_may_not_be_read(tmp_path):
    path = write_wav(tmp_path / "a.wav", noise(0.2))
    path.chmod(0)
    outcome = process(path, out=tmp_path / "out")
    assert outcome.status == 1
    assert "may not be read" in outcome.only_error()


@pytest.mark.parametrize("name", ["wrong.mp3", "no_suffix", "letters \u00e4\u00f6\u732b.wav", "-dash.wav"])
def test_renamed_recordings_are_read(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    compressed(Path(name).absolute(), "flac", "flac")
    outcome = run("process", "--out", "out", "--model", SMALL, "--", name)
    assert outcome.status == 0, outcome.err
    assert len(read_wav(next((tmp_path / "out").iterdir()) / "agent.wav")) == 25 * 1920


def test_a_name_that_is_no_text(tmp_path):
    path = os.fsencode(tmp_path) + b"/caf\xe9.wav"
    try:
        shutil.copy(write_wav(tmp_path / "a.wav", noise(0.2)), path)
    except OSError:
        pytest.skip("names are text on this system")
    outcome = spawn("process", os.fsdecode(path), "--out", tmp_path / "out", "--model", SMALL)
    assert (outcome.status, outcome.err) == (0, "")
    (results,) = (tmp_path / "out").iterdir()
    assert json.loads((results / "run.json").read_text())["input"] == os.fsdecode(path)


@pytest.mark.parametrize(
    ("codec", "container"),
    [("libmp3lame", "mp3"), ("libopus", "ogg"), ("flac", "flac"), ("pcm_s16le", "wav")],
)
def test_a_truncated_recording_is_heard_up_to_its_end_and_that_is_told(tmp_path, codec, container):
    path = compressed(tmp_path / "a", codec, container, seconds=4.0)
    whole = process(path, out=tmp_path / "whole")
    assert (whole.status, whole.err) == (0, "")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    outcome = process(path, out=tmp_path / "out")
    assert outcome.status == 0
    assert outcome.err.splitlines() == [
        f"duplex: note: {path} was cut short; what is there was processed. Get the whole file"
    ]
    assert 12 <= tokens_of(tmp_path / "out" / "a")["text"].size <= 40
    assert json.loads((tmp_path / "out" / "a" / "run.json").read_text())["cut_short"] is True


@pytest.mark.parametrize(("channels", "rate"), [(7, 48000), (1, 96000), (2, 8000), (1, 44100)])
def test_unusual_sound(tmp_path, channels, rate):
    pcm = noise(0.8, channels=channels, rate=rate)
    path = write_wav(tmp_path / "a.wav", pcm, rate)
    outcome = process(path, out=tmp_path / "out")
    assert outcome.status == 0, outcome.err
    assert len(read_wav(tmp_path / "out" / "a" / "dialogue.wav")) == 10 * 1920
