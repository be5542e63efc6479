"""Manifests and lists of other toolkits, with the recordings that they name."""

import gzip
import json

import pytest
from measuring_support import LEFT, RIGHT, measure_here, recording, save, sounds, stereo

from duplex.errors import UsageError
from duplex.measuring import find_dialogues, measure_turns

COUNTED = ("pause_count", "gap_count", "overlap_between_count", "offset_count", "first_units", "second_units")
EXACT = measure_turns(LEFT, RIGHT, duration=10).summary()


def assert_measured(results, *names):
    assert [str(each.error or "") for each in results] == ["" for _ in names]
    assert [each.source.name.name for each in results] == list(names)
    for result in results:
        assert [result.summary[name] for name in COUNTED] == [EXACT[name] for name in COUNTED]
        assert result.summary["offset_median"] == pytest.approx(EXACT["offset_median"], abs=0.021)


def write_lines(path, objects):
    text = "".join(json.dumps(each) + "\n" for each in objects)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def lhotse_recording(name, *sources):
    return {
        "id": name,
        "sources": [{"type": "file", "channels": channels, "source": str(path)} for path, channels in sources],
        "sampling_rate": 16000,
        "num_samples": 160000,
        "duration": 10.0,
    }


def lhotse_cut(name, source, **fields):
    return {"id": name, "start": 0, "duration": 10.0, "type": "MonoCut", "recording": source, **fields}


@pytest.fixture
def sides(tmp_path):
    save(tmp_path / "a" / "call-A.wav", sounds(LEFT, 10))
    save(tmp_path / "a" / "call-B.wav", sounds(RIGHT, 10, seed=1))
    return tmp_path / "a" / "call-A.wav", tmp_path / "a" / "call-B.wav"


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_recordings_of_lhotse(tmp_path, sides, suffix):
    call = recording(tmp_path / "call.wav")
    lines = [
        lhotse_recording("one", (call, [0, 1])),
        lhotse_recording("two", (sides[0], [0]), (sides[1], [1])),
        lhotse_recording("three-A", (sides[0], [0])),
        lhotse_recording("three-B", (sides[1], [0])),
    ]
    assert_measured(measure_here(write_lines(tmp_path / f"r{suffix}", lines)), "one", "two", "three")


def test_cuts_of_lhotse(tmp_path, sides):
    padded = stereo(seconds=20.0, left=[(s + 4, e + 4) for s, e in LEFT], right=[(s + 4, e + 4) for s, e in RIGHT])
    whole = lhotse_recording("call", (save(tmp_path / "call.wav", padded), [0, 1]))
    window = {"start": 4.0, "duration": 10.0}
    target = {"target_audio": lhotse_recording("agent", (sides[1], [0]))}
    lines = [
        lhotse_cut("both", whole, type="MultiCut", channel=[0, 1], **window),
        lhotse_cut("b", whole, channel=1, **window),  # the two channels of one stretch
        lhotse_cut("a", whole, channel=0, **window),
        lhotse_cut("duplex", lhotse_recording("user", (sides[0], [0])), channel=0, custom=target),
    ]
    results = measure_here(write_lines(tmp_path / "cuts.jsonl", lines))
    assert_measured(results, "both", "a", "duplex")
    assert [each.summary["duration"] for each in results] == [10.0, 10.0, 10.0]
    assert results[2].source.speakers == ("user", "agent")


def supervision(number, start, end, **fields):
    return {"id": f"s{number}", "recording_id": "call", "start": start, "duration": end - start, **fields}


def test_supervisions_of_lhotse_are_turns(tmp_path):
    by_channel = [supervision(i, *time, channel=0) for i, time in enumerate(LEFT)]
    by_channel += [supervision(i + 9, *time, channel=1) for i, time in enumerate(RIGHT)]
    by_name = [{**each, "channel": 0, "speaker": "bob" if each["channel"] else "ann"} for each in by_channel]
    cuts = [
        lhotse_cut("one", lhotse_recording("call", ("none.wav", [0, 1])), supervisions=by_channel),
        lhotse_cut("two", lhotse_recording("call", ("none.wav", [0])), supervisions=by_name),
    ]
    results = measure_here(write_lines(tmp_path / "cuts.jsonl", cuts), given_turns=True)
    assert_measured(results, "one", "two")
    assert [each.source.speakers for each in results] == [("channel 0", "channel 1"), ("ann", "bob")]
    assert [each.summary["duration"] for each in results] == [10, 10]
    alone = write_lines(tmp_path / "supervisions.jsonl.gz", by_name)
    assert_measured(measure_here(alone), "call")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"id": "a", "sources": [{"type": "command", "channels": [0], "source": "rm x"}]}, "type 'command'"),
        ({"id": "a", "sources": []}, "sources are []"),
        ({"id": "a", "sources": "x"}, "sources are"),
        ({"id": "a", "sources": [{"type": "file", "channels": [0], "source": "x"}], "transforms": [1]}, "transforms"),
        (lhotse_cut("a", None, type="MixedCut"), "MixedCut without a recording"),
        (lhotse_cut("a", lhotse_recording("r", ("x", [0, 1])), start="soon"), "'soon' is no time"),
        (lhotse_cut("a", lhotse_recording("r", ("x", [0, 1])), channel=2), "channels"),
        (lhotse_cut("a", lhotse_recording("r", ("x", [0, 1])), channel=1), "no entry has the other"),
        ({"audio_filepath": 3}, "audio_filepath is 3"),
        ({"audio_filepath": "x", "offset": -1}, "'-1' is no time"),
        ({"audio_filepath": "none.wav"}, "does not exist"),
        ({"audio": "x"}, "no entry of lhotse's or NeMo's"),
    ],
)
def test_an_entry_that_cannot_be_used_does_not_stop_the_others(tmp_path, line, words):
    good = lhotse_recording("good", (recording(tmp_path / "call.wav"), [0, 1]))
    results = measure_here(write_lines(tmp_path / "m.jsonl", [good, line]))
    assert [each.source.name.name for each in results if each.error is None] == ["good"]
    (problem,) = [str(each.error) for each in results if each.error is not None]
    assert words in problem


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "has no entries"),
        (b"nothing\n", "line 1: no JSON object"),
        (b"[1]\n", "is no object"),
        (b"\xff\xfe\n", "not text"),
        (b"{" * 100000, "no JSON object"),
    ],
)
def test_what_is_no_manifest(tmp_path, content, words):
    (tmp_path / "m.jsonl").write_bytes(content)
    (result,) = measure_here(tmp_path / "m.jsonl")
    assert isinstance(result.error, UsageError)
    assert words in str(result.error)


def test_a_manifest_that_is_cut_short_or_missing(tmp_path):
    whole = gzip.compress(b'{"audio_filepath": "x"}\n' * 1000)
    (tmp_path / "m.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    assert "cannot be read" in str(measure_here(tmp_path / "m.jsonl.gz")[0].error)
    assert "does not exist" in str(measure_here(tmp_path / "none.jsonl")[0].error)


def test_manifests_of_nemo(tmp_path, sides):
    recording(tmp_path / "call.wav")
    (tmp_path / "all.rttm").write_text(rttm("call"))
    padded = stereo(seconds=20.0, left=[(s + 4, e + 4) for s, e in LEFT], right=[(s + 4, e + 4) for s, e in RIGHT])
    save(tmp_path / "long.wav", padded)
    lines = [
        {"audio_filepath": "call.wav", "offset": 0, "duration": None, "rttm_filepath": "all.rttm"},
        {"audio_filepath": str(tmp_path / "long.wav"), "offset": 4.0, "duration": 10.0},
        {"audio_filepath": [str(side) for side in sides], "duration": 10.0},
        *({"audio_filepath": f"a/{side.name}"} for side in sides),
    ]
    path = write_lines(tmp_path / "manifest.json", lines)
    assert_measured(measure_here(path), "call", "long-4", "call-A", "call-2")
    for side, channel in (("A", 0), ("B", 1)):
        save(tmp_path / f"talk-{side}.wav", padded[:, channel])
    stretches = [
        {"audio_filepath": f"talk-{side}.wav", "offset": offset, "duration": duration}
        for offset, duration in ((0, 3.0), (4.0, 10.0))
        for side in "AB"
    ]
    silent, talk = measure_here(write_lines(tmp_path / "stretches.json", stretches))
    assert_measured([talk], "talk-4")
    assert (silent.source.name.name, silent.summary["duration"], silent.summary["first_units"]) == ("talk", 3.0, 0)
    path = write_lines(tmp_path / "first.json", lines[:1])
    (result,) = measure_here(path, given_turns=True)
    assert_measured([result], "call")
    assert "nothing was listened to" in result.notes[0]


def rttm(label):
    return "".join(
        f"SPEAKER {label} 1 {start} {end - start} <NA> <NA> {name} <NA> <NA>\n"
        for name, times in (("ann", LEFT), ("bob", RIGHT))
        for start, end in times
    )


def kaldi(folder, **tables):
    folder.mkdir(exist_ok=True)
    for name, text in tables.items():
        (folder / name.replace("wav_scp", "wav.scp")).write_text(text)
    return folder


def test_data_of_kaldi(tmp_path, sides):
    call = recording(tmp_path / "call.wav")
    scp = f"one {call}\ntwo-A {sides[0]}\ntwo-B {sides[1]}\nx3 {sides[0]}\ny3 {sides[1]}\n"
    scp += f"sw4-A sph2pipe -f wav -p -c 1 {call} |\nsw4-B /opt/bin/sph2pipe -f wav -p -c 2 {call} |\n"
    after = "-f wav -threads 1 pipe:1 |\n"  # as lhotse exports: each channel of a file, and of a SPHERE file
    scp += "".join(
        f"fe_{side} ffmpeg -threads 1 -i {call} -ar 16000 -map_channel 0.0.{side}  {after}" for side in (0, 1)
    )
    sphere = "sph2pipe {} -f wav -c {} -p | ffmpeg -threads 1 -i pipe:0 -ar 8000 " + after
    scp += "".join(f"sph_{side} {sphere.format(call, side + 1)}" for side in (0, 1))
    folder = kaldi(tmp_path / "data", wav_scp=scp, reco2file_and_channel="x3 three A\ny3 three B\n")
    names = ("one", "two", "three", "sw4", "fe", "sph")
    assert_measured(measure_here(folder), *names)
    assert_measured(measure_here(folder / "wav.scp"), *names)


def test_segments_of_kaldi_are_turns(tmp_path):
    times = [("call-A", *time) for time in LEFT] + [("call-B", *time) for time in RIGHT]
    segments = "".join(f"u{index} {reco} {start} {end}\n" for index, (reco, start, end) in enumerate(times))
    folder = kaldi(tmp_path / "data", wav_scp="call-A none.wav\ncall-B none.wav\n", segments=segments)
    assert_measured(measure_here(folder, given_turns=True), "call")
    one = "".join(f"u{index} call {start} {end}\n" for index, (_, start, end) in enumerate(times))
    speakers = "".join(f"u{index} {'ann' if reco == 'call-A' else 'bob'}\n" for index, (reco, *_) in enumerate(times))
    folder = kaldi(tmp_path / "other", wav_scp="call none.wav\n", segments=one, utt2spk=speakers)
    results = measure_here(folder, given_turns=True)
    assert_measured(results, "call")
    assert results[0].source.speakers == ("ann", "bob")


@pytest.mark.parametrize(
    ("scp", "words"),
    [
        ("a touch hacked |\n", "commands are not run"),
        ("a sph2pipe -c 1 x.sph | sox - |\n", "commands are not run"),
        ("a 'sph2pipe |\n", "commands are not run"),
        ("a ffmpeg -i x.wav -af volume=2 pipe:1 |\n", "commands are not run"),
        ("a ffmpeg -y -i x.wav pipe:1 |\n", "commands are not run"),
        ("a ffmpeg -i x.wav -map_channel 0.0.5 pipe:1 |\n", "commands are not run"),
        ("a ffmpeg -i pipe:0 pipe:1 |\n", "commands are not run"),
        ("a touch hacked | ffmpeg -i pipe:0 -f wav pipe:1 |\n", "commands are not run"),
        ("a ffmpeg -i x.wav hacked |\n", "commands are not run"),
        ("a\n", "has no path"),
        ("a none.wav\n", "does not exist"),
    ],
)
def test_what_kaldi_would_run_or_miss(tmp_path, monkeypatch, scp, words):
    monkeypatch.chdir(tmp_path)
    (result,) = measure_here(kaldi(tmp_path / "data", wav_scp=scp))
    assert words in str(result.error)
    assert not (tmp_path / "hacked").exists()


def test_segments_that_are_wrong(tmp_path):
    folder = kaldi(tmp_path / "data", wav_scp="a x.wav\n", segments="u a 2 1\n")
    assert "ends before it starts" in str(measure_here(folder, given_turns=True)[0].error)
    (folder / "segments").write_text("u a 2\n")
    assert "fields instead of" in str(measure_here(folder, given_turns=True)[0].error)
    (folder / "segments").unlink()
    assert "leave --given-turns out" in str(measure_here(folder, given_turns=True)[0].error)


def test_a_list_of_recordings(tmp_path, sides):
    recording(tmp_path / "one.wav")
    (tmp_path / "list.txt").write_text(f"# calls\none.wav\n\n{sides[0]}\t{sides[1]}\nnone.wav\n")
    results = {each.source.name.name: each for each in measure_here(tmp_path / "list.txt")}
    assert "does not exist" in str(results.pop("none").error)
    assert_measured(results.values(), "call-A", "one")
    (tmp_path / "list.txt").write_text("a\tb\tc\n")
    assert "3 paths" in str(measure_here(tmp_path / "list.txt")[0].error)
    (tmp_path / "list.txt").write_text("# nothing\n")
    assert "names no recording" in str(measure_here(tmp_path / "list.txt")[0].error)


def test_manifests_that_lhotse_writes(tmp_path):
    lhotse = pytest.importorskip("lhotse", reason="lhotse is not installed, and needs PyTorch: pip install lhotse")
    path = recording(tmp_path / "call.wav")
    recordings = lhotse.RecordingSet.from_recordings([lhotse.Recording.from_file(path)])
    segments = lhotse.SupervisionSet.from_segments(
        lhotse.SupervisionSegment(f"{name}{start}", "call", start, end - start, channel=channel, speaker=name)
        for channel, (name, times) in enumerate((("ann", LEFT), ("bob", RIGHT)))
        for start, end in times
    )
    cuts = lhotse.CutSet.from_manifests(recordings=recordings, supervisions=segments)
    for name, content in (("recordings", recordings), ("supervisions", segments), ("cuts", cuts)):
        content.to_file(tmp_path / f"{name}.jsonl.gz")
    assert_measured(measure_here(tmp_path / "recordings.jsonl.gz"), "call")
    assert_measured(measure_here(tmp_path / "supervisions.jsonl.gz"), "call")
    (plain,) = measure_here(tmp_path / "cuts.jsonl.gz")
    (given,) = measure_here(tmp_path / "cuts.jsonl.gz", given_turns=True)
    assert_measured([plain], plain.source.name.name)
    assert_measured([given], given.source.name.name)


def test_a_manifest_in_a_folder_is_passed_over(tmp_path):
    recording(tmp_path / "call.wav")
    write_lines(tmp_path / "m.jsonl", [{"audio_filepath": "call.wav"}])
    passed = []
    found = find_dialogues([tmp_path], passed_over=passed.append)
    assert [each.name.name for each in found] == ["call"]
    assert [path.name for path in passed] == ["m.jsonl"]
