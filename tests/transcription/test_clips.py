"""The user's turns, cut out of the user's audio."""

from itertools import pairwise

import numpy as np
import pytest

from duplex.transcription.clips import Clipper

FRAME, RATE = 1920, 24000
FRAME_SECONDS = FRAME / RATE


def numbered(index):
    return np.full(FRAME, index, np.float32)


def hear(clipper, frames, first=0):
    return [
        clip for index in range(first, first + frames) if (clip := clipper.hear(index * FRAME_SECONDS, numbered(index)))
    ]


def test_a_turn_has_a_margin_on_both_sides():
    clipper = Clipper(RATE)
    hear(clipper, 10)
    assert clipper.turn(started=True, at=0.5) is None
    hear(clipper, 20, first=10)
    clip = clipper.turn(started=False, at=1.6)
    assert (clip.at, clip.seconds) == (pytest.approx(0.25), pytest.approx(1.6))
    assert len(clip.pcm) == round(1.6 * RATE)
    assert clip.pcm[0] == round(0.25 / FRAME_SECONDS - 0.5)
    assert clip.pcm[-1] == 23


def test_what_was_skipped_is_silence_in_its_place():
    clipper = Clipper(RATE)
    hear(clipper, 5)
    clipper.turn(started=True, at=0.24)
    hear(clipper, 5, first=10)  # frames 5 to 9 are missing
    clip = clipper.finish()
    heard = clip.pcm[:: FRAME // 2]
    assert clip.seconds == pytest.approx(15 * FRAME_SECONDS - clip.at)
    assert not clip.pcm[
        round((5 * FRAME_SECONDS - clip.at) * RATE) : round((10 * FRAME_SECONDS - clip.at) * RATE)
    ].any()
    assert heard[-1] == 14


def test_silence_is_not_kept():
    clipper = Clipper(RATE)
    hear(clipper, 2000)
    assert len(clipper._frames) * FRAME_SECONDS <= Clipper.KEPT + FRAME_SECONDS
    assert clipper.finish() is None


def test_a_long_turn_is_cut_without_a_gap():
    clipper = Clipper(RATE)
    hear(clipper, 10)
    clipper.turn(started=True, at=0.5)
    frames = round(60 / FRAME_SECONDS)
    clips = [*hear(clipper, frames, first=10), clipper.finish()]
    assert len(clips) == 3
    assert all(clip.seconds <= Clipper.LONGEST + FRAME_SECONDS for clip in clips)
    for before, after in pairwise(clips):
        assert before.at + before.seconds == pytest.approx(after.at)
        assert after.pcm[0] == before.pcm[-1] + 1


def test_an_end_without_a_beginning_is_nothing():
    clipper = Clipper(RATE)
    hear(clipper, 3)
    assert clipper.turn(started=False, at=0.1) is None
