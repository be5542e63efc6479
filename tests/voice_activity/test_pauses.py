"""The voice activity of a recognition model's own heads: when it calls a frame a pause, and when it is not asked."""

import numpy as np
import pytest

from duplex.conversation.turns import UserTurns
from duplex.errors import StateError
from duplex.frame_model import Frame
from duplex.voice_activity.pauses import PAUSE_HEAD, WARM_UP, PauseVoiceActivity
from duplex.voice_activity.protocol import VoiceActivity

FRAME = 0.08
EMPTY = np.zeros(0, np.int64)


def frame(pause, heads=4):
    """A frame whose pause score is ``pause``, and whose other heads say the opposite."""
    told = np.full((heads, 6), (1 - pause) / 5, np.float32)
    told[:, 0] = 1 - pause
    told[PAUSE_HEAD, 0] = pause
    return Frame(at=0.0, user_pcm=EMPTY, agent_pcm=None, text=0, agent=EMPTY, user=EMPTY, heads=told)


def warm():
    voice = PauseVoiceActivity(FRAME)
    for _ in range(WARM_UP):
        voice.hear(frame(0.0))
    return voice


def turns_of(voice, scores):
    """Return ``(started, frame)`` of each turn's start or stop, by the rule of turns."""
    turns, found, windows = UserTurns(), [], 0
    for index, score in enumerate(scores):
        for probability in voice.hear(frame(score)):
            turn = turns.update(probability, windows * voice.window)
            windows += 1
            if turn is not None:
                found.append((turn.started, index, round(turn.at / FRAME, 6)))
    return found


def test_speech_is_what_is_no_pause():
    voice = warm()
    assert isinstance(voice.window, float)
    for score in (0.0, 0.3, 1.0):
        assert voice.hear(frame(score)) == pytest.approx([1 - score] * round(FRAME / voice.window))


def test_the_first_steps_say_nothing():
    voice = PauseVoiceActivity(FRAME)
    told = [max(voice.hear(frame(0.0))) for _ in range(WARM_UP + 2)]
    assert told == [0.0] * WARM_UP + [1.0] * 2


def test_a_frame_without_heads_is_a_pause():
    voice = warm()
    bare = Frame(at=0.0, user_pcm=EMPTY, agent_pcm=None, text=0, agent=EMPTY, user=EMPTY)
    assert max(voice.hear(bare)) == 0.0


def test_one_frame_decides():
    assert turns_of(warm(), [1, 1, 0, 0, 0, 1, 1, 0]) == [(True, 2, 2), (False, 5, 5), (True, 7, 7)]


def test_between_the_thresholds_nothing_changes():
    """A pause score of 0.5 begins a turn, and one above 0.65 ends it."""
    assert turns_of(warm(), [0.6, 0.6, 0.5, 0.6, 0.64, 0.66, 0.6]) == [(True, 2, 2), (False, 5, 5)]


@pytest.mark.parametrize("heard", [0, 5, WARM_UP, WARM_UP + 30])
def test_a_state_goes_on_where_it_was_taken(heard):
    whole, after = PauseVoiceActivity(FRAME), PauseVoiceActivity(FRAME)
    for _ in range(heard):
        whole.hear(frame(0.2))
    after.restore(whole.state())
    assert [after.hear(frame(0.2)) for _ in range(WARM_UP + 1)] == [whole.hear(frame(0.2)) for _ in range(WARM_UP + 1)]


@pytest.mark.parametrize(
    "state",
    [{}, {"frames": np.zeros(2, np.float32)}, {"frames": np.array([-1.0])}, {"frames": np.array([WARM_UP + 1])}],
)
def test_a_damaged_state_is_refused(state):
    with pytest.raises(StateError, match="damaged"):
        PauseVoiceActivity(FRAME).restore(state)


def test_it_is_a_detector():
    voice: VoiceActivity = PauseVoiceActivity(FRAME)
    assert voice.state()["frames"].dtype == np.float32
