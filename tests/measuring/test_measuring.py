"""Files through the measures: synthesised dialogues with exact times, and everything that recordings can be."""

import csv
import json
import shutil
import struct
import subprocess
import sys
import time

import anyio
import numpy as np
import pytest
from measuring_support import LEFT, RATE, RIGHT, recording, save, sounds, stereo

from cli_support import vanishing
from duplex.audio.g711 import compress
from duplex.errors import AudioFileError, OutputError, UsageError
from duplex.measuring import Settings, find_dialogues, measure, measure_audio, measure_turns

LEVEL = Settings(detector="level")
EXACT = measure_turns(LEFT, RIGHT, duration=10).summary()


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


def run(inputs, out, **options):
    return anyio.run(lambda: measure(inputs, out, **{"settings": LEVEL, "jobs": 1, **options}))


def assert_exact(summary, **other):
    """The same figures as those of the exact times, within two windows."""
    for name, value in {**EXACT, **other}.items():
        assert summary[name] == (value if value is None or isinstance(value, str) else pytest.approx(value, abs=0.021))


def write_sphere(path, pcm, rate, coding):
    """Write NIST SPHERE, float32 ``[samples, channels]``."""
    samples = np.rint(pcm * 32767).astype("<i2")
    data = samples.tobytes() if coding == "pcm" else compress("mulaw", samples.reshape(-1)).tobytes()
    width = 2 if coding == "pcm" else 1
    fields = [
        f"sample_count -i {len(pcm)}",
        f"sample_rate -i {rate}",
        f"channel_count -i {pcm.shape[1]}",
        f"sample_byte_format -s{width} {'01' if width == 2 else '1'}",
        f"sample_n_bytes -i {width}",
        f"sample_coding -s{len(coding)} {coding}",
    ]
    header = "\n".join(["NIST_1A", "   1024", *fields, "end_head", ""])
    path.write_bytes(header.encode().ljust(1024, b"\0") + data)


@pytest.mark.anyio
async def test_a_recording_is_measured_and_told(tmp_path):
    path = recording(tmp_path / "call.wav")
    told = []
    (result,) = await measure([path], tmp_path / "out", settings=LEVEL, jobs=2, progress=told.append)
    assert told == [result]
    assert (result.status, result.notes, result.path) == ("done", [], tmp_path / "out" / "call.json")
    assert_exact(result.summary)
    content = json.loads(result.path.read_text())
    assert content["summary"] == result.summary
    assert [event["event"] for event in content["events"]].count("unit") == 5


@pytest.mark.parametrize("rate", [8000, 44100])
def test_any_sample_rate(tmp_path, rate):
    (result,) = run([recording(tmp_path / "call.wav", rate=rate)], tmp_path / "out")
    assert_exact(result.summary)


@pytest.mark.parametrize("coding", ["pcm", "ulaw"])
def test_sphere(tmp_path, coding):
    write_sphere(tmp_path / "call.sph", stereo(rate=8000), 8000, coding)
    (result,) = run([tmp_path / "call.sph"], tmp_path / "out")
    assert_exact(result.summary)


def test_two_files_are_a_pair_and_the_shorter_one_is_silent_after_its_end(tmp_path):
    for name, times, seconds in (("left", LEFT, 10), ("right", RIGHT, 8)):
        save(tmp_path / f"call-{name}.wav", sounds(times, seconds))
    (result,) = run([tmp_path], tmp_path / "out")
    assert result.path.name == "call.json"
    assert_exact(result.summary)
    assert result.notes == ["right is 2.00 s shorter, and counts as silent there"]


def test_a_pair_by_other_names_and_one_without_its_other_side(tmp_path):
    for name in ("x-A", "x-B", "y-A"):
        save(tmp_path / f"{name}.wav", sounds(LEFT, 10))
    found = find_dialogues([tmp_path], pair=("*-A", "*-B"))
    assert [(str(each.name), each.kind, len(each.files)) for each in found] == [("x", "pair", 2), ("y-A", "stereo", 1)]
    results = run([tmp_path], tmp_path / "out", pair=("*-A", "*-B"))
    assert [each.status for each in results] == ["done", "failed"]
    assert "is mono" in str(results[1].error)
    assert results[0].summary["overlap_within_count"] == 3


def test_results_of_process_and_recordings_of_a_server(tmp_path):
    recording(tmp_path / "results" / "one" / "dialogue.wav")
    (tmp_path / "results" / "one" / "run.json").write_text("{}")
    save(tmp_path / "results" / "one" / "agent.wav", sounds(RIGHT, 10))
    recording(tmp_path / "results" / "two" / "dialogue.wav")
    (tmp_path / "results" / "two" / "events.jsonl").write_text("")
    recording(tmp_path / "results" / "call.wav")
    found = find_dialogues([tmp_path / "results"])
    assert [(str(each.name), each.speakers) for each in found] == [
        ("one", ("user", "agent")),
        ("two", ("user", "agent")),
        ("call", ("left", "right")),
    ]
    (result,) = run([tmp_path / "results" / "two"], tmp_path / "out")
    assert result.path.name == "two.json"
    assert_exact(result.summary, first_speaker="user", second_speaker="agent")


def test_a_folder_with_nothing_but_results_is_no_failure(tmp_path):
    recording(tmp_path / "results" / "one" / "dialogue.wav")
    (tmp_path / "results" / "one" / "run.json").write_text("{}")
    assert [str(each.name) for each in find_dialogues([tmp_path / "results"])] == ["one"]
    (result,) = run([tmp_path / "results"], tmp_path / "out")
    assert result.status == "done"


def results_of(folder, *names):
    for name in names:
        recording(folder / name / "dialogue.wav")
        (folder / name / "run.json").write_text("{}")


def test_results_are_known_as_such_while_a_server_deletes_others(tmp_path, monkeypatch):
    results_of(tmp_path / "calls", "one", "two", "three")
    vanishing(monkeypatch, tmp_path / "calls" / "two", tmp_path / "gone")
    found = find_dialogues([tmp_path / "calls"])
    assert [(str(each.name), each.speakers) for each in found] == [
        (name, ("user", "agent")) for name in ("one", "three")
    ]


def test_results_in_linked_folders_are_measured_once(tmp_path):
    results_of(tmp_path / "calls", "one")
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "link").symlink_to(tmp_path / "calls")
    (found,) = find_dialogues([tmp_path / "all"])
    assert (found.name.as_posix(), found.speakers) == ("link/one", ("user", "agent"))
    (found,) = find_dialogues([tmp_path / "calls", tmp_path / "all"])
    assert (str(found.name), found.speakers) == ("one", ("user", "agent"))


def test_turns_from_rttm(tmp_path):
    lines = [
        f"SPEAKER call 1 {start} {end - start} <NA> <NA> {name} <NA> <NA>"
        for name, times in (("ann", LEFT), ("bob", RIGHT))
        for start, end in times
    ]
    (tmp_path / "call.rttm").write_text(";; by hand\n" + "\n".join(lines) + "\n")
    (result,) = run([tmp_path / "call.rttm"], tmp_path / "out")
    assert_exact(result.summary, duration=9, first_speaker="ann", second_speaker="bob")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nothing\n", "no line that begins with SPEAKER"),
        ("SPEAKER a 1 0.0\n", "line 1: 4 fields"),
        ("SPEAKER a 1 0.0 soon <NA> <NA> ann <NA> <NA>\n", "'soon' is no time"),
        ("SPEAKER a 1 0.0 1 <NA> <NA> ann <NA> <NA>\n", "has 1 speakers in a (ann)"),
    ],
)
def test_rttm_that_cannot_be_used(tmp_path, text, words):
    (tmp_path / "call.rttm").write_text(text)
    (result,) = run([tmp_path / "call.rttm"], tmp_path / "out")
    assert isinstance(result.error, UsageError)
    assert words in str(result.error)


def test_what_cannot_be_measured_does_not_stop_the_others(tmp_path):
    folder = tmp_path / "calls"
    recording(folder / "good.wav")
    save(folder / "mono.wav", sounds(LEFT, 10))
    save(folder / "six.wav", np.zeros((RATE, 6), np.float32))
    (folder / "text.wav").write_text("not sound")
    results = {each.source.name.name: each for each in run([folder, tmp_path / "none.wav"], tmp_path / "out", jobs=2)}
    assert {name for name, each in results.items() if each.status == "done"} == {"good"}
    for name, words in {
        "mono": "is mono",
        "six": "6 channels",
        "text": "not a recording",
        "none.wav": "not exist",
    }.items():
        result = results.get(name) or results[name.removesuffix(".wav")]
        assert isinstance(result.error, AudioFileError)
        assert words in str(result.error)
    with (tmp_path / "out" / "dialogues.csv").open() as file:
        assert [row["name"] for row in csv.DictReader(file)] == ["good"]


def test_a_silent_channel_and_no_speech_are_told(tmp_path):
    silent, noise = stereo(), 0.002 * np.random.default_rng(0).standard_normal((RATE * 3, 2)).astype(np.float32)
    silent[:, 1] = 0
    save(tmp_path / "a.wav", silent)
    save(tmp_path / "b.wav", noise)
    one, other = run([tmp_path / "a.wav", tmp_path / "b.wav"], tmp_path / "out")
    assert one.notes == ["right is silent: nothing is louder than -60 dBFS"]
    assert (one.summary["first_share"], one.summary["gap_count"]) == (1, 0)
    assert other.notes == ["left has no speech", "right has no speech"]
    assert (other.status, other.summary["first_share"]) == ("done", None)


def test_swapped_channels_are_the_same_dialogue(tmp_path):
    save(tmp_path / "a.wav", stereo())
    save(tmp_path / "b.wav", stereo()[:, ::-1])
    one, other = run([tmp_path / "a.wav", tmp_path / "b.wav"], tmp_path / "out")
    for name, value in one.summary.items():
        place, _, rest = name.partition("_")
        twin = {"first": f"second_{rest}", "second": f"first_{rest}"}.get(place, name)
        assert rest == "speaker" or other.summary[twin] == value


def test_finished_dialogues_are_skipped_until_something_changes(tmp_path):
    path = recording(tmp_path / "call.wav")
    assert [each.status for each in run([path], tmp_path / "out")] == ["done"]
    (again,) = run([path], tmp_path / "out")
    assert again.status == "skipped"
    assert_exact(again.summary)
    assert run([path], tmp_path / "out", force=True)[0].status == "done"
    assert run([path], tmp_path / "out", settings=Settings(detector="level", turn_silence=2))[0].status == "done"
    save(path, stereo()[:, ::-1])
    assert run([path], tmp_path / "out", settings=Settings(detector="level", turn_silence=2))[0].status == "done"


def test_measures_of_another_recording_are_not_replaced(tmp_path):
    run([recording(tmp_path / "call.wav")], tmp_path / "out")
    other = save(tmp_path / "elsewhere" / "call.wav", stereo()[:, ::-1])
    (result,) = run([other], tmp_path / "out")
    assert isinstance(result.error, OutputError)
    assert "another recording" in str(result.error)
    (tmp_path / "out" / "call.json").write_text("{}")
    assert "no measures" in str(run([other], tmp_path / "out")[0].error)


def test_a_run_that_was_killed_goes_on(tmp_path):
    for number in range(12):
        recording(tmp_path / "calls" / f"{number:02}.wav", seconds=20.0)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "duplex", "measure", tmp_path / "calls", "--out", out, "--jobs", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(out.glob("*.json")):
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    finished = {path.stem for path in out.glob("*.json")}
    assert finished
    assert not (out / "dialogues.csv").exists()
    for path in out.glob("*.json"):
        json.loads(path.read_text())
    results = run([tmp_path / "calls"], out, settings=Settings(), jobs=2)
    assert {each.source.name.name for each in results if each.status == "skipped"} >= finished
    assert {each.status for each in results} <= {"done", "skipped"}
    assert len((out / "dialogues.csv").read_text().splitlines()) == 13


def test_samples_in_memory():
    found = measure_audio(sounds(LEFT, 10), sounds(RIGHT, 10), RATE, settings=LEVEL)
    assert_exact(found.summary())
    assert found.offsets.tolist() == pytest.approx([-0.5, 0.5], abs=0.021)


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_silero_finds_the_times_of_speech(tmp_path):
    say = ["espeak-ng", "--stdout", "I went to the market and bought some apples"]
    raw = subprocess.run(say, capture_output=True, check=True).stdout
    (rate,) = struct.unpack("<I", raw[24:28])
    pcm = np.frombuffer(raw[44:], "<i2") / np.float32(32768)
    loud = np.flatnonzero(np.abs(pcm) > 0.01)
    pcm = pcm[loud[0] : loud[-1] + 1]
    seconds = len(pcm) / rate
    sides = np.random.default_rng(0).normal(0, 10 ** (-65 / 20), (round(20 * rate), 2)).astype(np.float32)
    times = {0: (1.0, 8.0), 1: (1.0 + seconds + 0.6, 8.0 + seconds - 0.5)}
    for channel, starts in times.items():
        for start in starts:
            sides[round(start * rate) : round(start * rate) + len(pcm), channel] += pcm
    (result,) = run([save(tmp_path / "call.wav", sides, rate)], tmp_path / "out", settings=Settings())
    assert result.summary["offset_count"] == 3
    offsets = [
        event["offset"] for event in json.loads(result.path.read_text())["events"] if event["event"] == "transfer"
    ]
    assert offsets[0] == pytest.approx(0.6, abs=0.1)
    assert offsets[2] == pytest.approx(-0.5, abs=0.1)


def test_parquet_where_pyarrow_is(tmp_path):
    parquet = pytest.importorskip(
        "pyarrow.parquet", reason="pyarrow is not installed: pip install 'duplex-speech[tables]'"
    )
    run([recording(tmp_path / "call.wav")], tmp_path / "out")
    (row,) = parquet.read_table(tmp_path / "out" / "dialogues.parquet").to_pylist()
    assert (row["name"], row["gap_count"], row["notes"]) == ("call", 1, "")
    events = parquet.read_table(tmp_path / "out" / "events.parquet").to_pylist()
    assert [event["offset"] for event in events if event["event"] == "transfer"] == pytest.approx(
        [-0.5, 0.5], abs=0.021
    )


def test_a_result_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "out" / "call.json").mkdir(parents=True)  # stands where the result goes
    (result,) = run([recording(tmp_path / "call.wav")], tmp_path / "out")
    assert isinstance(result.error, OutputError)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["call.json"]
