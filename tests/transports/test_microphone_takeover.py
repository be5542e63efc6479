"""While WebRTC's canceller takes over a room, the agent does not hear itself, and hears a user who cuts in."""

import wave

import numpy as np
import pytest

from duplex.transports.microphone.alignment import LEAD
from duplex.transports.microphone.echo import WebRtcProcessor
from duplex.transports.microphone.takeover import TakeoverGate

RATE, BLOCK = 24000, 1920
SECONDS = 8
pytest.importorskip("pywebrtc_audio")


def spoken(path):
    """Return a recording at -23 dBFS while it sounds."""
    with wave.open(str(path)) as file:
        assert file.getframerate() == RATE
        pcm = np.frombuffer(file.readframes(file.getnframes()), "<i2") / np.float32(32768)
    return pcm * (0.07 / np.sqrt(np.mean(pcm[np.abs(pcm) > 0.01] ** 2)))


def room(reverberation, echo_db):
    size = round(reverberation * RATE)
    tail = np.random.default_rng(7).normal(0, 1, size) * 10 ** (-3 * np.arange(size) / size)
    response = 0.3 * tail / np.linalg.norm(tail)
    response[0] = 1.0
    return 10 ** (echo_db / 20) * np.concatenate([np.zeros(round(0.006 * RATE)), response])


def echoed(pcm, response):
    size = 1 << (pcm.size + response.size).bit_length()
    return np.fft.irfft(np.fft.rfft(pcm, size) * np.fft.rfft(response, size), size)[: pcm.size]


@pytest.fixture
def agent(conversation):
    return conversation[: SECONDS * RATE // BLOCK * BLOCK]


@pytest.fixture
def conversation(pytestconfig):
    pcm = spoken(pytestconfig.rootpath / "examples" / "conversation.wav")
    return pcm[: pcm.size // BLOCK * BLOCK]


@pytest.fixture
def user(pytestconfig):
    pcm = spoken(pytestconfig.rootpath / "examples" / "question.wav")
    return pcm[np.flatnonzero(np.abs(pcm) > 0.02)[0] :]


def heard(far, near):
    processor, early = WebRtcProcessor(RATE), np.concatenate([far[round(LEAD * RATE) :], np.zeros(round(LEAD * RATE))])
    early, near = early.astype(np.float32), near.astype(np.float32)
    return np.concatenate(
        [processor.process(near[i : i + BLOCK], early[i : i + BLOCK]) for i in range(0, far.size, BLOCK)]
    )


def loudest(pcm):
    """Return the level of the loudest 100 ms, dBFS."""
    blocks = pcm[: pcm.size // 2400 * 2400].reshape(-1, 2400)
    return 10 * np.log10(np.mean(blocks**2, axis=1).max() + 1e-12)


@pytest.mark.parametrize(("reverberation", "echo_db"), [(0.15, -12), (0.15, 0), (0.4, -6), (0.8, -6), (0.8, 0)])
def test_no_echo_passes_while_the_canceller_takes_over(agent, reverberation, echo_db):
    echo = echoed(agent, room(reverberation, echo_db))
    assert loudest(echo) > -35
    assert loudest(heard(agent, echo)) < loudest(echo) - 12


def quietest(pcm, after):
    """Return the middle of the quietest 0.6 s that begin after so many seconds."""
    starts = np.arange(round(after * RATE), pcm.size - 8 * RATE, RATE // 10)
    at = min(starts, key=lambda at: np.abs(pcm[at : at + round(0.6 * RATE)]).max())
    return (at + round(0.3 * RATE)) // BLOCK * BLOCK


def jumping(pcm, echo_db, before, after, jump):
    """Return the echo of a recording, whose delay changes from ``before`` to ``after`` seconds at a sample."""
    early, late = (np.concatenate([np.zeros(round(delay * RATE)), pcm])[: pcm.size] for delay in (before, after))
    noise = np.random.default_rng(3).normal(0, 1e-4, pcm.size)
    return 10 ** (echo_db / 20) * np.concatenate([early[:jump], late[jump:]]) + noise


@pytest.mark.parametrize(("before", "after"), [(0.006, 0.025), (0.025, 0.006), (0.03, 0.0), (0.006, 0.007)])
@pytest.mark.parametrize("echo_db", [-12, 0])
def test_no_echo_passes_where_its_delay_has_jumped(conversation, echo_db, before, after):
    agent, jump = conversation, quietest(conversation, 10.0)
    echo = jumping(agent, echo_db, before, after, jump)
    pieces = heard(agent, echo)[jump:].reshape(-1, RATE // 50)
    passes = np.mean(pieces**2, axis=1) > 10 ** (-40 / 10)
    assert passes.sum() <= 5  # a tenth of a second, in which the jump is found


@pytest.mark.parametrize("after", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("echo_db", [-12, -6])
def test_a_user_who_cuts_in_after_a_jump_is_heard(conversation, user, echo_db, after):
    agent, jump = conversation, quietest(conversation, 10.0)
    near = jumping(agent, echo_db, 0.006, 0.025, jump)
    speaks = jump + np.flatnonzero(np.abs(agent[jump:]) > 0.02)[0] + round(after * RATE)
    near[speaks : speaks + user.size] += user[: near.size - speaks]
    assert loudest(heard(agent, near)[speaks : speaks + RATE]) > -35


@pytest.mark.parametrize("at", [1.0, 3.7, 3.95, 4.3])
@pytest.mark.parametrize("echo_db", [-12, -6])
def test_a_user_who_cuts_in_meanwhile_is_heard(agent, user, echo_db, at):
    near = echoed(agent, room(0.15, echo_db))
    begin = round(at * RATE)
    near[begin : begin + user.size] += user[: near.size - begin]
    assert loudest(heard(agent, near)[begin : begin + RATE]) > -35


def white(seconds, seed):
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


def gated(gate, far, near, out, gain=1.0):
    pieces = [slice(i, i + BLOCK) for i in range(0, far.size, BLOCK)]
    return np.concatenate([gate.apply(near[i], far[i], out[i], gain) for i in pieces])


def test_echo_that_passes_whole_is_silenced_at_first_and_a_settled_canceller_is_believed():
    far = white(6.4, 1)
    echo, gate = 0.5 * far, TakeoverGate(RATE, 0.0)
    out = gated(gate, far, echo, echo)
    assert not out[RATE : 2 * RATE].any()
    quiet, gate = 0.001 * far, TakeoverGate(RATE, 0.0)
    gated(gate, far, echo, quiet)  # settles
    once = gated(gate, far[:BLOCK], echo[:BLOCK], echo[:BLOCK])
    assert np.array_equal(once, echo[:BLOCK])
    again = gated(gate, far[BLOCK:], echo[BLOCK:], echo[BLOCK:])
    assert not again[RATE:].any()


def test_echo_in_a_part_of_a_frame_is_silenced_there():
    far = white(2.4, 1)
    echo, left = 0.5 * far, np.zeros_like(far)
    left[-BLOCK // 2 :] = echo[-BLOCK // 2 :]
    out = gated(TakeoverGate(RATE, 0.0), far, echo, left)
    assert not out[-BLOCK // 2 + RATE // 200 :].any()


def test_what_a_room_rings_with_is_silenced_and_not_a_user_who_begins_then():
    far = white(1.0, 1)
    far[RATE // 2 :] = 0.0
    ringing = np.concatenate([0.5 * far[: RATE // 2], np.zeros(RATE // 2, np.float32)])
    fades = 0.25 * white(0.5, 3) * 10 ** (-3 * np.arange(RATE // 2) / (0.8 * RATE))
    ringing[RATE // 2 :] += fades.astype(np.float32)
    gate = TakeoverGate(RATE, 0.0)
    assert not gated(gate, far, ringing, ringing)[RATE // 2 + BLOCK : RATE // 2 + 3 * BLOCK].any()
    begins = ringing.copy()
    begins[RATE // 2 + 2 * BLOCK :] += white(0.5, 2)[2 * BLOCK :]
    heard = gated(TakeoverGate(RATE, 0.0), far, begins, begins)
    assert np.array_equal(heard[RATE // 2 + 3 * BLOCK :], begins[RATE // 2 + 3 * BLOCK :])


def test_the_gain_after_the_canceller_does_not_count():
    far = white(3.2, 1)
    gate = TakeoverGate(RATE, 0.0)
    left = 0.01 * far  # 34 dB less than the echo, made 30 dB louder
    assert np.array_equal(gated(gate, far, 0.5 * far, 30 * left, gain=30.0), 30 * left)


def test_what_the_loudspeaker_does_not_explain_passes():
    far, voice = white(3.2, 1), white(3.2, 2)
    assert np.array_equal(gated(TakeoverGate(RATE, 0.0), far, voice, voice), voice)
    silent = np.zeros_like(far)
    assert np.array_equal(gated(TakeoverGate(RATE, 0.0), silent, voice, voice), voice)
