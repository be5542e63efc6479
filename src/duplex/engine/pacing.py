"""Keeping live conversations on time: pure decisions; whoever has a clock passes its time in.

Input that stalls (:class:`LiveClock`): the session's time line must not fall behind the clock by more than 160 ms. When
it would, silence stands in; of a longer gap (a machine that slept) all but a second is passed over. Audio that then
arrives in a burst, ahead of the clock, is late: as much of it is dropped as silence stood in for it, in whole packets
(frames, of longer ones); what is left over is a debt that later packets pay. Audio that comes back at the clock's pace
(a mute that ends) is heard, and after a second of it nothing more counts as late. Of a line that was broken, on which
nobody could be heard, the time line passes over all (:meth:`LiveClock.pass_over`).

A model that falls behind (:func:`frames_to_skip`): frames that wait are skipped, silent ones first, then the oldest.
"""

from collections.abc import Sequence

import attrs

__all__ = ["LiveClock", "frames_to_skip"]


@attrs.define
class LiveClock:
    """The time line of live audio against the clock. Times are seconds, amounts are samples."""

    sample_rate: int
    frame_size: int
    began: float
    patience: float = 0.16
    slack: float = 0.04
    """How far ahead of the clock audio may be before it counts as late: a clock that runs a little fast is not."""
    position: int = 0
    """Samples on the time line: heard, less the debt, and stood in for."""
    stood_in: int = 0
    """Samples of silence that audio may still arrive for."""
    on_pace: int = 0
    """Samples that have come at the clock's pace since silence last stood in."""
    debt: int = 0
    """Samples that were late and heard all the same, less than a packet or frame."""

    def arrived(self, samples: int, now: float) -> int:
        """Take a packet of ``samples``; return how many of them, from the first, are late and must be dropped."""
        ahead = self.position + samples - round((now - self.began) * self.sample_rate)
        late = min(ahead, self.stood_in, samples) if ahead > self.slack * self.sample_rate else 0
        self.position += samples - late
        self.on_pace = 0 if late else self.on_pace + samples
        self.stood_in = 0 if self.on_pace > self.sample_rate else self.stood_in - late
        self.debt += late
        # With a fraction dropped, every later frame would be filled by the packet after the one that it ends in now.
        unit = max(1, min(samples, self.frame_size))
        dropped = min(self.debt, samples) // unit * unit
        self.debt -= dropped
        return dropped

    def silence_due(self, now: float) -> tuple[int, int]:
        """Return how many frames the time line must pass over now, and for how many more silence must stand in."""
        behind = round((now - self.began - self.patience) * self.sample_rate) - self.position
        if behind <= 0:
            return 0, 0
        frames = -(-behind // self.frame_size)
        silence = min(frames, max(1, self.sample_rate // self.frame_size))
        self.position += frames * self.frame_size
        self.stood_in += frames * self.frame_size
        self.on_pace = 0
        return frames - silence, silence

    def pass_over(self, now: float) -> int:
        """Return how many whole frames the time line must pass over now, as nobody was there: no silence stands in."""
        behind = round((now - self.began) * self.sample_rate) - self.position
        frames = max(0, behind // self.frame_size)
        self.position += frames * self.frame_size
        self.on_pace = 0
        return frames

    def wait(self, now: float) -> float:
        """Return for how many seconds no silence will be due."""
        return max(0.0, self.began + self.position / self.sample_rate + self.patience - now)


def frames_to_skip(silent: Sequence[bool], excess: int) -> list[int]:
    """Choose ``excess`` of the frames that wait to be skipped; return their indices in order.

    ``silent`` tells of each frame, the oldest first, whether it is silent.

    >>> frames_to_skip([False, True, False, True], 3)
    [0, 1, 3]
    """
    order = sorted(range(len(silent)), key=lambda index: not silent[index])
    return sorted(order[:excess])
