"""Clocks, alignment and the jitter buffer, on devices whose every sample is known."""

import numpy as np
import pytest
from microphone_support import RATE, FakeSound, devices, silence, tone

from duplex.transports.microphone.clocks import ClockedStream
from duplex.transports.microphone.line import Line
from duplex.transports.microphone.playback import LIMIT

FRAME = 1920


class Run:
    """A line on a fake sound system, driven by hand."""

    def __init__(self, system, canceller=None):
        self.system = system
        self.line = Line(RATE, canceller)
        chosen = system.devices()
        self.capture, _ = system.open_capture(chosen[0])
        self.playback, _ = system.open_playback(chosen[-1])
        self.line.connect(self.capture, self.playback)
        self.began = system.now()
        self.frames = 0

    def go(self, seconds, say=None, step=0.02):
        """Pass time; ``say(times)`` is the agent's voice, a frame when it is due. Return what was heard.

        The clock is a sum: by its rounding alone no frame may come a step late.
        """
        pieces = []
        for _ in range(round(seconds / step)):
            self.system.advance(step)
            while say and self.system.now() - self.began >= self.frames * FRAME / RATE - 1e-6:
                times = (self.frames * FRAME + np.arange(FRAME)) / RATE
                self.line.jitter.push(say(times).astype(np.float32))
                self.frames += 1
            pieces.append(self.line.advance(self.system.now()))
        return np.concatenate(pieces)


class PassedOn:
    """In a canceller's place: changes nothing."""

    def process(self, near, far):
        assert near.shape == far.shape
        return near


def largest_step(pcm):
    return float(np.abs(np.diff(pcm)).max())


def check_drift(seconds, ppm):
    """Nothing tears, nothing is lost or made, and what waits stays what it was."""
    sound = tone(200.0)
    run = Run(FakeSound(sound=sound, drift_ppm=ppm, jitter=0.001), PassedOn())
    run.go(5.0, tone(150.0))
    waiting, heard, made = [], 0, run.system.now()
    system, worst_in, worst_out, last = run.system, 0.0, 0.0, None
    for _ in range(round(seconds)):
        system.heard.clear()
        pcm = run.go(1.0, tone(150.0))
        waiting.append(run.line.jitter.seconds)
        heard += pcm.size
        joined = pcm if last is None else np.concatenate([last, pcm])
        worst_in, worst_out = max(worst_in, largest_step(joined)), max(worst_out, largest_step(system.played()))
        last = pcm[-1:]
    assert abs(heard - (system.now() - made) * RATE) <= 0.02 * RATE
    assert worst_in < 0.3 * 2 * np.pi * 200 / RATE * 1.02
    assert worst_out < 0.3 * 2 * np.pi * 150 / 48000 * 1.02
    assert max(waiting) < 0.16
    assert run.line.underruns == run.line.overruns == 0
    assert run.line.near_clock.anchors == run.line.far_clock.anchors == 1
    assert abs(run.line.near_clock.drift_ppm - ppm) < 30


@pytest.mark.parametrize("ppm", [-200.0, 200.0])
def test_clocks_that_drift(ppm):
    check_drift(90.0, ppm)


@pytest.mark.slow
@pytest.mark.parametrize("ppm", [-200.0, 200.0])
def test_half_an_hour_of_drift(ppm):
    check_drift(1800.0, ppm)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8000.0, 16000.0, 44100.0, 48000.0])
def test_every_rate_and_channel_count(rate, channels):
    run = Run(FakeSound(devices(rate, channels), sound=tone(440.0)))
    heard = run.go(2.0, tone(300.0))
    assert abs(heard.size - 1.93 * RATE) <= 0.02 * RATE
    at = np.arange(heard.size) / RATE
    settled = slice(RATE // 2, None)
    basis = np.stack([np.sin(2 * np.pi * 440 * at), np.cos(2 * np.pi * 440 * at)], axis=1)[settled]
    fit, *_ = np.linalg.lstsq(basis, heard[settled], rcond=None)
    assert np.linalg.norm(fit) == pytest.approx(0.3, rel=0.01)
    assert np.abs(heard[settled] - basis @ fit).max() < 0.003
    played = run.system.played()
    assert np.abs(played[-int(rate) :]).max() == pytest.approx(0.3, rel=0.02)


class Aligned:
    """In a canceller's place: keeps what it is given."""

    def __init__(self):
        self.near, self.far = [], []

    def process(self, near, far):
        self.near.append(near)
        self.far.append(far)
        return near


@pytest.mark.parametrize("ppm", [-200.0, 0.0, 200.0])
def test_the_far_end_is_what_was_played_then(ppm):
    """The room is a loudspeaker that is heard 5 ms later: near and far differ by that and the lead, to 0.1 ms."""
    canceller, voice = Aligned(), np.random.default_rng(1).normal(0, 0.1, 400 * RATE)
    system = FakeSound(drift_ppm=ppm, latency=0.06)

    def room(times):
        if not system.heard:
            return silence(times)
        begins = np.array([begin for begin, _ in system.heard[-20:]])
        blocks = np.concatenate([block for _, block in system.heard[-20:]])
        return np.interp(times - 0.005, begins[0] + np.arange(blocks.size) / system.lines[1].clock_rate, blocks)

    system.sound = room
    run = Run(system, canceller)
    run.go(20.0, lambda times: voice[np.round(times * RATE).astype(int)], step=0.01)
    near, far = (np.concatenate(each)[-4 * RATE :] for each in (canceller.near, canceller.far))
    size = 2 * near.size
    correlation = np.fft.irfft(np.fft.rfft(near, size) * np.conj(np.fft.rfft(far, size)))
    assert abs(int(np.argmax(correlation)) / RATE - 0.025) <= 0.0001


@pytest.mark.parametrize("lost", [0.1, 0.4])
def test_a_short_loss_is_silence_on_the_grid(lost):
    run = Run(FakeSound(sound=tone(100.0)))
    before = run.go(1.0).size
    run.system.lines[0].samples += round(lost * 48000)
    after = run.go(1.0 + lost)
    assert abs(before + after.size - (1.95 + lost) * RATE) <= 0.02 * RATE
    zeros = np.flatnonzero(after == 0)
    assert abs(zeros.size - lost * RATE) <= 0.06 * RATE  # what was off for five blocks is not believed before that


def test_what_nobody_took_is_counted_and_a_long_loss_stays_a_gap():
    run = Run(FakeSound(sound=tone(100.0)))
    before = run.go(1.0).size
    stalled = run.go(3.0, step=3.0).size  # the ring holds two seconds
    assert before + stalled + run.go(2.0).size == pytest.approx(4.95 * RATE, abs=0.02 * RATE)
    assert run.line.overruns > 0


def test_not_a_number_and_clipping():
    def broken(times):
        heard = 2.0 * np.sin(2 * np.pi * 100 * times)
        heard[::7] = np.nan
        heard[::11] = np.inf
        return heard

    run = Run(FakeSound(sound=broken))
    assert np.isfinite(run.go(1.0)).all()
    assert run.line.watch.clipped
    run.system.sound = silence
    run.go(3.0)
    assert not run.line.watch.clipped
    assert run.line.watch.silent_seconds == pytest.approx(3.0, abs=0.05)


def test_a_burst_after_a_stall_is_made_up_for_in_pauses():
    """The agent is late by half a second: it runs dry, and catches up where the agent says nothing."""
    run = Run(FakeSound())
    run.go(2.0, tone())
    run.go(0.5)
    run.go(0.5, tone())
    assert run.line.underruns == 1
    assert run.line.jitter.seconds > 0.3
    run.go(1.0, silence)
    assert run.line.jitter.margin.seconds < 0.06
    assert run.line.jitter.seconds < 0.08 + run.line.jitter.margin.seconds + 0.02  # a frame, the margin, two blocks


def test_what_waits_is_bounded():
    run = Run(FakeSound())
    while not run.line.jitter.full:
        run.line.jitter.push(np.ones(FRAME, np.float32))
    assert LIMIT < run.line.jitter.seconds < LIMIT + 0.1
    run.go(0.3)
    assert not run.line.jitter.full


def test_what_is_played_is_clipped_and_a_number():
    run = Run(FakeSound())
    run.line.jitter.push(np.full(FRAME, 3.0, np.float32))
    run.line.jitter.push(np.full(FRAME, np.nan, np.float32))
    run.go(1.0)
    played = run.system.played()
    assert played.max() == 1.0
    assert np.isfinite(played).all()


def test_a_block_that_is_off_once_moves_nothing():
    stream = ClockedStream(48000, RATE)
    for block in range(300):
        late = 0.2 if block == 200 else 0.0
        stream.push(np.zeros(480, np.float32), 50 + block * 0.01 + late)
    assert stream.anchors == 1
    pieces = stream.take()
    ends = [start + pcm.size for start, pcm in pieces]
    assert ends[:-1] == [start for start, _ in pieces[1:]]


def late(each, by):
    """Return when each frame comes: every tenth is late."""
    return lambda frame: frame * FRAME / RATE + (by if frame % each == each - 1 else 0.0)


def test_frames_that_come_late_again_and_again_cost_one_gap_at_most():
    run = Run(FakeSound())
    due = late(10, 0.05)
    for _ in range(1500):
        run.system.advance(0.01)
        while run.system.now() - run.began >= due(run.frames):
            times = (run.frames * FRAME + np.arange(FRAME)) / RATE
            run.line.jitter.push(tone(150.0)(times).astype(np.float32))
            run.frames += 1
        run.line.advance(run.system.now())
    assert run.line.underruns <= 1
    assert 0.05 < run.line.jitter.margin.seconds < 0.1


def test_where_frames_come_on_time_little_waits_and_nothing_tears():
    run = Run(FakeSound())
    run.go(10.0, tone(150.0), step=0.01)
    run.system.heard.clear()
    run.go(5.0, tone(150.0), step=0.01)
    assert run.line.underruns == 0
    assert run.line.jitter.margin.seconds < 0.025
    assert largest_step(run.system.played()) < 0.3 * 2 * np.pi * 150 / 48000 * 1.02


def test_in_a_pause_what_waits_is_brought_to_the_margin():
    run = Run(FakeSound())
    run.go(1.0, tone(), step=0.01)
    run.line.jitter.margin.ran_dry(0.04)  # the agent's next frames may be later
    wanted = run.line.jitter.margin.seconds
    run.go(1.0, silence, step=0.01)
    assert run.line.jitter.margin.waiting == pytest.approx(wanted, abs=0.012)
