"""Everything that recordings of dialogues can be that is not two clear channels: an error, or a rule that is told."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from measuring_support import LEFT, RATE, RIGHT, measure_here, recording, save, sounds, stereo

from cli_support import write_float_wav
from duplex.errors import AudioFileError
from duplex.measuring import find_dialogues, measure_turns

EXACT = measure_turns(LEFT, RIGHT, duration=10).summary()


def only(path, **options):
    (result,) = measure_here(path, **options)
    return result


def cut(path, size):
    whole = path.read_bytes()
    path.write_bytes(whole[:size])
    return path


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda path: (path.touch(), path)[1], "is empty"),
        (lambda path: (path.write_text("Hello, this is a letter."), path)[1], "not a recording"),
        (lambda path: (path.write_bytes(os.urandom(4096)), path)[1], "not a recording"),
        (lambda path: cut(recording(path), 20), "not a recording"),
        (lambda path: (path.mkdir(), path)[1], "is a folder"),
        (lambda path: path, "does not exist"),
        (lambda path: save(path, sounds(LEFT, 10)), "is mono"),
        (lambda path: save(path, np.zeros((RATE, 3), np.float32)), "has 3 channels"),
    ],
)
def test_what_cannot_be_measured(tmp_path, made, words):
    result = only(made(tmp_path / "call.wav"))
    assert isinstance(result.error, AudioFileError)
    assert words in str(result.error)
    assert "call.wav" in str(result.error)


def test_a_recording_that_is_cut_short_is_measured_up_to_there(tmp_path):
    path = recording(tmp_path / "call.wav")
    result = only(cut(path, 44 + 4 * RATE * 5))
    assert result.error is None
    assert result.notes == ["call.wav was cut short, and counts up to there; get the whole file"]
    assert result.summary["duration"] == pytest.approx(5, abs=0.01)
    assert (result.summary["pause_count"], result.summary["gap_count"]) == (1, 0)


@pytest.mark.parametrize(
    "name", ["ä ö.wav", "-x.wav", "a\nb.wav", "[x]*.wav", "%s{}.wav", "x" * 200 + ".wav", "한국어.wav"]
)
def test_names_with_odd_characters(tmp_path, name):
    result = only(recording(tmp_path / name))
    assert result.error is None
    assert result.summary["gap_count"] == EXACT["gap_count"]


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 48000, 96000])
def test_rates_of_a_pair_may_differ(tmp_path, rate):
    save(tmp_path / "call-A.wav", sounds(LEFT, 10, rate), rate)
    save(tmp_path / "call-B.wav", sounds(RIGHT, 10, seed=1))
    result = only(tmp_path)
    assert result.error is None
    for name in ("gap_total", "pause_total", "overlap_between_total"):
        assert result.summary[name] == pytest.approx(EXACT[name], abs=0.03)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("call-left", "call-right"),
        ("call_A", "call_B"),
        ("call-A", "call-B"),
        ("call-Left", "call-RIGHT"),
        ("x_user", "x_agent"),
    ],
)
def test_usual_names_of_two_files(tmp_path, first, second):
    save(tmp_path / f"{second}.wav", sounds(RIGHT, 10, seed=1))
    save(tmp_path / f"{first}.wav", sounds(LEFT, 10))
    (result,) = measure_here(tmp_path)
    assert result.source.name.name == first[: -len(first.split("-")[-1].split("_")[-1]) - 1]
    assert [path.path.stem for path in result.source.files] == [first, second]
    assert result.summary["gap_count"] == EXACT["gap_count"]


def test_stereo_files_with_such_names_are_dialogues_of_their_own(tmp_path):
    for name in ("call_A", "call_B"):
        recording(tmp_path / f"{name}.wav")
    assert [(each.name.name, each.kind) for each in find_dialogues([tmp_path])] == [
        ("call_A", "stereo"),
        ("call_B", "stereo"),
    ]
    assert "is one side of a pair by its name" in str(only(tmp_path, pair=("*_A", "*_B")).error)


def test_samples_that_are_no_numbers(tmp_path):
    pcm = sounds(RIGHT, 10)
    pcm[RATE * 5] = np.nan
    save(tmp_path / "call-A.wav", sounds(LEFT, 10))
    write_float_wav(tmp_path / "call-B.wav", pcm, RATE)
    assert "call-B.wav has NaN or infinity at 5.00 s" in str(only(tmp_path).error)


def test_one_side_of_a_pair_that_cannot_be_read(tmp_path):
    save(tmp_path / "call-A.wav", sounds(LEFT, 10))
    (tmp_path / "call-B.wav").write_text("not sound")
    assert "call-B.wav" in str(only(tmp_path).error)


@pytest.mark.parametrize("suffix", ["flac", "mp3"])
def test_both_channels_of_a_compressed_recording(tmp_path, suffix):
    import av  # noqa: PLC0415

    pcm = np.rint(stereo() * 32767).astype(np.int16)
    with av.open(str(tmp_path / f"call.{suffix}"), "w") as container:
        stream = container.add_stream(suffix, rate=RATE, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(pcm.reshape(1, -1)), format="s16", layout="stereo")
        frame.sample_rate = RATE
        fitting = av.AudioResampler(
            format=stream.format, layout="stereo", rate=RATE, frame_size=stream.frame_size or 1152
        )
        for piece in (*fitting.resample(frame), *fitting.resample(None)):
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    result = only(tmp_path / f"call.{suffix}")
    assert result.summary["offset_median"] == pytest.approx(EXACT["offset_median"], abs=0.03)
    assert (result.summary["gap_count"], result.summary["pause_count"]) == (1, 2)


def test_measuring_works_where_there_is_no_torch(tmp_path):
    program = textwrap.dedent(
        """
        import sys
        for name in ("torch", "mlx", "onnxruntime", "matplotlib", "pyarrow", "praatio", "lhotse"):
            sys.modules[name] = None  # importing it fails
        import numpy as np
        from duplex.measuring import find_dialogues, measure_audio, measure_turns
        from duplex.measuring.one import measure_to_file
        from duplex.measuring.settings import Settings
        from duplex.measuring.tables import write_tables
        from pathlib import Path
        (source,) = find_dialogues([sys.argv[1]])
        measure_to_file(source, Path(sys.argv[2]), Settings())
        write_tables(Path(sys.argv[2]), [Path(sys.argv[2]) / "call.json"])
        measure_audio(np.zeros(16000), np.zeros(16000, np.int16), 16000)
        assert len(measure_turns([(0, 1)], [(2, 3)]).records()) == 6
        """
    )
    path = recording(tmp_path / "call.wav")
    command = [sys.executable, "-W", "error", "-c", program, path, tmp_path / "out"]
    subprocess.run(command, check=True, timeout=300)
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == ["call.json", "dialogues.csv", "events.csv"]
