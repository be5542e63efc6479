"""Names of results: what counts as the same, and what no file may be called."""

import unicodedata
from pathlib import PurePath

import pytest
from process_support import touch

from duplex.measuring.source import Source, with_own_names
from duplex.process import find_recordings
from duplex.process.names import distinct_names
from duplex.process.recordings import Recording

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "caf\xe9") for form in ("NFC", "NFD"))


def distinct(*names):
    return [str(name) for name in distinct_names([[PurePath(name)] for name in names])]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("call", "Call"),
        (COMPOSED, DECOMPOSED),
        (COMPOSED, DECOMPOSED.upper()),
        ("call", "call."),
        ("call", "call. ."),
        (f"{COMPOSED}/call", f"{DECOMPOSED}/call"),
        ("day./call", "Day/call "),
    ],
)
def test_names_that_some_disk_takes_for_one(first, second):
    assert distinct(first, second) == [first, f"{second}-2"]


@pytest.mark.parametrize(
    "name", ["call", "Call.1", COMPOSED, DECOMPOSED, "call.", "...", "a b", "con-1", "com10", "nulls"]
)
def test_names_that_nobody_else_has_stay_as_they_are(name):
    assert distinct(name, "other") == [name, "other"]


@pytest.mark.parametrize(
    ("name", "harmless"),
    [
        ("con", "_con"),
        ("NUL.wav", "_NUL.wav"),
        ("aux .a.b", "_aux .a.b"),
        ("COM1", "_COM1"),
        ("lpt\xb2", "_lpt\xb2"),
        ("prn/call", "_prn/call"),
    ],
)
def test_devices_of_windows_have_another_name(name, harmless):
    assert distinct(name) == [harmless]
    assert distinct(harmless, name) == [harmless, f"{harmless}-2"]


def test_recordings_with_such_names_keep_their_suffixes_where_that_helps(tmp_path):
    touch(tmp_path, f"{COMPOSED}.wav", f"{DECOMPOSED}.flac", "aux.wav", "call..wav", "call.wav")
    found = sorted(str(recording.name) for recording in find_recordings([tmp_path]))
    assert found == sorted([f"{COMPOSED}.wav", f"{DECOMPOSED}.flac", "_aux", "call..wav", "call.wav"])


def test_measures_have_such_names_too(tmp_path):
    names = [PurePath(name) for name in (COMPOSED, DECOMPOSED, "nul", "call", "call.", "Call")]
    sources = [Source(name=name, kind="stereo", files=(Recording(tmp_path / name, name),)) for name in names]
    named = [str(each.name) for each in with_own_names(sources)]
    assert named == [COMPOSED, f"{DECOMPOSED}-2", "_nul", "call", "call.-2", "Call-3"]
