"""Who speaks when, from files: RTTM, CTM, TextGrid; and a labelled dialogue that was counted by hand."""

import importlib.util
import itertools

import pytest
from measuring_support import LEFT, RIGHT, measure_here

from duplex.errors import MissingDependencyError
from duplex.measuring import measure_turns

EXACT = measure_turns(LEFT, RIGHT, duration=10).summary()
BOTH = (("ann", LEFT), ("bob", RIGHT))
SAMPLE = """\
SPEAKER sample 1 6.690 0.430 <NA> <NA> speaker90 <NA> <NA>
SPEAKER sample 1 7.550 0.800 <NA> <NA> speaker91 <NA> <NA>
SPEAKER sample 1 8.320 1.700 <NA> <NA> speaker90 <NA> <NA>
SPEAKER sample 1 9.920 1.110 <NA> <NA> speaker91 <NA> <NA>
SPEAKER sample 1 10.570 4.130 <NA> <NA> speaker90 <NA> <NA>
SPEAKER sample 1 14.490 3.430 <NA> <NA> speaker91 <NA> <NA>
SPEAKER sample 1 18.050 3.440 <NA> <NA> speaker90 <NA> <NA>
SPEAKER sample 1 18.150 0.440 <NA> <NA> speaker91 <NA> <NA>
SPEAKER sample 1 21.780 6.720 <NA> <NA> speaker91 <NA> <NA>
SPEAKER sample 1 27.850 2.150 <NA> <NA> speaker90 <NA> <NA>
"""
"""The sample of pyannote.audio 4.0.7 (copyright CNRS, MIT licence): two people on the telephone."""


def write(path, text):
    path.write_text(text)
    return path


def only(path, **options):
    (result,) = measure_here(path, **options)
    return result


def assert_exact(result, *speakers):
    assert result.error is None
    assert result.source.speakers == speakers
    for name, value in EXACT.items():
        if name not in {"duration", "first_speaker", "second_speaker"}:
            assert result.summary[name] == value


def rttm(times):
    return "".join(f"SPEAKER call 1 {s} {round(e - s, 3)} <NA> <NA> {name} <NA> <NA>\n" for name, s, e in times)


def test_a_labelled_dialogue_counted_by_hand(tmp_path):
    # Read off the times above: 90 at 6.69-7.12, 8.32-10.02, 10.57-14.70, 18.05-21.49, 27.85-30.00; 91 at 7.55-8.35,
    # 9.92-11.03, 14.49-17.92, 18.15-18.59, 21.78-28.50.
    result = only(write(tmp_path / "sample.rttm", SAMPLE))
    summary = result.summary
    assert result.source.speakers == ("speaker90", "speaker91")
    assert (summary["first_speech"], summary["second_speech"]) == (11.85, 12.5)
    assert (summary["first_units"], summary["second_units"]) == (5, 5)
    assert summary["pause_count"] == 0
    assert (summary["gap_count"], summary["gap_total"]) == (3, 0.85)  # 0.43, 0.13, 0.29
    assert (summary["overlap_between_count"], summary["overlap_between_total"]) == (5, 1.45)  # .03 .10 .46 .21 .65
    assert (summary["overlap_within_count"], summary["overlap_within_total"]) == (1, 0.44)  # 18.15-18.59
    assert (summary["offset_count"], summary["offset_mean"]) == (8, -0.075)  # 3 gaps less 5 overlaps: -0.6 s in sum
    # 91 at 14.49 and 90 at 27.85 cut in for 0.21 and 0.65 s; 90 at 10.57 goes on with its turn. At 18.15, 91 does too.
    assert (summary["first_interruptions"], summary["second_interruptions"]) == (1, 1)
    assert summary["stop_latency_median"] == 0.43
    assert (summary["first_backchannels"], summary["second_backchannels"]) == (0, 0)


@pytest.mark.parametrize("order", ["shuffled", "cut into pieces", "twice"])
def test_rttm_in_any_order_and_overlapping_itself(tmp_path, order):
    times = [(name, start, end) for name, every in BOTH for start, end in every]
    if order == "shuffled":
        times.reverse()
    elif order == "twice":
        times += times
    else:  # pieces that overlap, or leave less than 200 ms between them
        times = [piece for name, s, e in times for piece in ((name, s, s + 0.5), (name, s + 0.4, e), (name, s, s))]
    assert_exact(only(write(tmp_path / "call.rttm", rttm(times))), "ann", "bob")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("SPEAKER call 1 -1 2 <NA> <NA> ann <NA> <NA>", "line 2: '-1' is no time"),
        ("SPEAKER call 1 1 -2 <NA> <NA> ann <NA> <NA>", "line 2: '-2' is no time"),
        ("SPEAKER call 1 nan 2 <NA> <NA> ann <NA> <NA>", "'nan' is no time"),
        ("SPEAKER call 1 1 1e999 <NA> <NA> ann <NA> <NA>", "'1e999' is no time"),
        ("SPEAKER call 1 1 1 <NA> <NA> third <NA> <NA>", "has 3 speakers in call (ann, bob, third)"),
        ("SPEAKER call 1 1 1 <NA>", "line 2: 6 fields"),
    ],
)
def test_a_line_of_rttm_that_is_wrong(tmp_path, line, words):
    times = rttm([(name, *every[0]) for name, every in BOTH]).splitlines(keepends=True)
    result = only(write(tmp_path / "call.rttm", times[0] + line + "\n" + times[1]))
    assert words in str(result.error)


def test_recordings_of_one_table_and_patterns_of_tables(tmp_path):
    times = [(name, start, end) for name, every in BOTH for start, end in every]
    text = rttm(times) + rttm(times).replace(" call ", " ../a/call ") + rttm(times[:1]).replace(" call ", " alone ")
    write(tmp_path / "x.rttm", text)
    write(tmp_path / "y.rttm", rttm(times))
    results = measure_here(tmp_path / "?.rttm")
    assert [each.source.name.name for each in results] == ["call", "_a_call", "alone", "call-2"]
    assert ["1 speakers" in str(each.error or "") for each in results] == [False, False, True, False]


def ctm(channels):
    lines = [f"{file} {channel} {s} {round(e - s, 3)} word 0.9" for file, channel, times in channels for s, e in times]
    return ";; by hand\n" + "\n".join([*lines, f"{channels[0][0]} {channels[0][1]} 0 9 <sil>"]) + "\n"


def test_ctm(tmp_path):
    path = write(tmp_path / "call.ctm", ctm([("call", "A", LEFT), ("call", "B", RIGHT)]))
    assert_exact(only(path), "A", "B")
    path = write(tmp_path / "two.ctm", ctm([("call-A", "1", LEFT), ("call-B", "1", RIGHT)]))
    result = only(path)
    assert_exact(result, "call-A", "call-B")
    assert result.source.name.name == "call"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no words"),
        (";; nothing\n", "has no words"),
        ("call A 0.0 1.0\n", "line 1: 4 fields"),
        ("call A 0.0 -1.0 word\n", "'-1.0' is no time"),
        ("call A soon 1.0 word\n", "'soon' is no time"),
        ("call A 0.0 1.0 word\n", "1 speakers in call (A)"),
    ],
)
def test_ctm_that_cannot_be_used(tmp_path, text, words):
    assert words in str(only(write(tmp_path / "call.ctm", text)).error)


def tier(number, name, times):
    intervals = "".join(
        f'        intervals [{index}]:\n            xmin = {s}\n            xmax = {e}\n            text = "{text}"\n'
        for index, (s, e, text) in enumerate(times, start=1)
    )
    head = f'    item [{number}]:\n        class = "IntervalTier"\n        name = "{name}"\n        xmin = 0\n'
    return f"{head}        xmax = 10\n        intervals: size = {len(times)}\n{intervals}"


def whole(times):
    """The times with text, and all between them without."""
    bounds = [0, *(bound for time in times for bound in time), 10]
    return [(s, e, "word" if index % 2 else "sil") for index, (s, e) in enumerate(itertools.pairwise(bounds))]


def textgrid(*tiers):
    head = 'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = 10\ntiers? <exists>\n'
    body = "".join(tier(number, name, whole(times)) for number, (name, times) in enumerate(tiers, start=1))
    return f"{head}size = {len(tiers)}\nitem []:\n{body}"


praatio = pytest.mark.skipif(
    importlib.util.find_spec("praatio") is None, reason="praatio is not installed: pip install 'duplex-speech[tables]'"
)


@praatio
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_textgrid(tmp_path, encoding):
    (tmp_path / "call.TextGrid").write_text(textgrid(*BOTH), encoding=encoding)
    result = only(tmp_path / "call.TextGrid")
    assert_exact(result, "ann", "bob")
    assert result.summary["duration"] == 10


@praatio
def test_the_tiers_with_words_are_meant(tmp_path):
    tiers = [(f"{name} - {kind}", times) for name, times in BOTH for kind in ("words", "phones")]
    result = only(write(tmp_path / "call.TextGrid", textgrid(*tiers)))
    assert_exact(result, "ann - words", "bob - words")


@praatio
@pytest.mark.parametrize("size", [0, 1, 40, 400])
def test_textgrid_that_is_broken(tmp_path, size):
    result = only(write(tmp_path / "call.TextGrid", textgrid(*BOTH)[:size]))
    assert "TextGrid" in str(result.error)


@praatio
def test_textgrid_of_another_number_of_speakers(tmp_path):
    result = only(write(tmp_path / "call.TextGrid", textgrid(*BOTH, ("eve", LEFT))))
    assert "3 speakers" in str(result.error)


def test_textgrid_without_praatio(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "praatio", None)
    result = only(write(tmp_path / "call.TextGrid", textgrid(*BOTH)))
    assert isinstance(result.error, MissingDependencyError)
    assert "install it with" in str(result.error)
