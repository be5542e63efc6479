"""What was sent to a caller and may not have been heard: kept, within bounds, to be sent again. No I/O, no clocks.

1. Messages are counted from the first that follows a caller's first token to resume; both sides count alike.
2. A caller who comes back says how many have come. What came after those is sent again, in order; nothing comes twice.
3. When there are too many, sound goes first, the oldest: it is told how much was lost. When anything else has gone that
   was not heard, the conversation cannot be gone on with: its events would have a gap.
"""

from collections import deque
from collections.abc import Iterable, Iterator

import attrs

from duplex.server.wires.base import WireMessage

__all__ = ["SentMessages", "Unheard"]


@attrs.frozen
class Unheard:
    """What a caller has not heard."""

    messages: tuple[WireMessage, ...]
    lost_sounds: int
    """Messages of sound that are not kept any more."""


class SentMessages:
    """The last messages that were sent, by their numbers."""

    MAX_SOUNDS = 125
    """Messages of sound: ten seconds. What is later than that is not worth hearing."""
    MAX_OTHERS = 2000
    """Other messages; a minute of talk has a few hundred."""
    MAX_BYTES = 1 << 20
    """Of all of them; samples of 16 bit take a half of that in ten seconds."""

    def __init__(self, count: int = 0, kept: Iterable[tuple[int, bool, WireMessage]] = ()) -> None:
        self.count: int = count
        """How many have been sent."""
        self._sounds: deque[tuple[int, WireMessage]] = deque()
        self._others: deque[tuple[int, WireMessage]] = deque()
        self._bytes = 0
        self._first_other = count
        """Before which number no message but sound is sure to be kept."""
        for number, sound, message in kept:
            (self._sounds if sound else self._others).append((number, message))
            self._bytes += len(message)
            self._first_other = min(self._first_other, number)

    def add(self, message: WireMessage, *, sound: bool) -> None:
        """Keep a message that is sent next."""
        (self._sounds if sound else self._others).append((self.count, message))
        self.count += 1
        self._bytes += len(message)
        while self._sounds and (len(self._sounds) > self.MAX_SOUNDS or self._bytes > self.MAX_BYTES):
            self._bytes -= len(self._sounds.popleft()[1])
        while len(self._others) > self.MAX_OTHERS or self._bytes > self.MAX_BYTES:
            number, dropped = self._others.popleft()
            self._bytes -= len(dropped)
            self._first_other = number + 1

    def since(self, received: int) -> Unheard | None:
        """Return what one has not heard who has ``received`` so many; ``None`` if that cannot be made good.

        What the caller has heard is forgotten.
        """
        if not self._first_other <= received <= self.count:
            return None
        for kept in (self._sounds, self._others):
            while kept and kept[0][0] < received:
                self._bytes -= len(kept.popleft()[1])
        self._first_other = received
        messages = tuple(self)
        return Unheard(messages, self.count - received - len(messages))

    def kept(self) -> tuple[tuple[int, bool, WireMessage], ...]:
        """Return what is kept: numbers, whether it is sound, and the messages."""
        sounds = [(number, True, message) for number, message in self._sounds]
        return tuple(sorted([*sounds, *((number, False, message) for number, message in self._others)]))

    def __iter__(self) -> Iterator[WireMessage]:
        """Return what is kept, in order."""
        return iter(message for _, message in sorted((*self._sounds, *self._others), key=lambda kept: kept[0]))
