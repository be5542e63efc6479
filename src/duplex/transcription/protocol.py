"""The protocol of transcribers: what turns the user's side of a conversation into words, beside its model.

A transcriber is shared; :meth:`Transcriber.open` gives each conversation a :class:`Transcription` of its own, which
hears every frame of the user's audio and is told when the user speaks. Words come when they are ready: nothing of a
conversation waits for them but its end.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import attrs
import numpy as np
from numpy.typing import NDArray

__all__ = ["Missed", "Transcriber", "Transcription", "Word"]

Float32 = NDArray[np.float32]


@attrs.frozen
class Word:
    """A word, without spaces around it, from ``start`` to ``end`` seconds of the user's audio."""

    text: str
    start: float
    end: float


@attrs.frozen
class Missed:
    """A stretch of the user's audio that was left out, ``seconds`` from ``at`` on, as ``behind`` seconds waited."""

    at: float
    behind: float
    seconds: float


class Transcription(Protocol):
    """One conversation's transcription. All is called in the conversation's event loop, :meth:`close` from anywhere."""

    def hear(self, at: float, pcm: Float32) -> None:
        """Take the user's next frame, float32 ``[frame_size]``, which starts ``at``; it must return at once.

        ``at`` jumps where audio was skipped. Of live audio, what is too much is left out, and told as :class:`Missed`.
        """
        ...

    def turn(self, *, started: bool, at: float) -> None:
        """Take the start or the end of the user's speech; the frames around ``at`` have been heard."""
        ...

    async def room(self) -> None:
        """Wait while so much waits that a conversation which is not live should wait too."""
        ...

    def finish(self) -> None:
        """Mark the end of the audio: what is waiting is transcribed, and then :meth:`receive` ends."""
        ...

    async def receive(self) -> Sequence[Word | Missed]:
        """Wait for the next words, in order.

        :raises anyio.EndOfStream: after :meth:`finish`, when all have been received
        """
        ...

    def close(self) -> None:
        """Give up what is waiting, and free what is held; more than once is harmless."""
        ...


@runtime_checkable
class Transcriber(Protocol):
    """Transcribes conversations, as many at a time as it can."""

    def open(self, sample_rate: int, *, realtime: bool) -> Transcription:
        """Begin to transcribe a conversation with audio of this rate, in its event loop; ``realtime`` if it is live.

        :raises CapacityError: if no further conversation can be transcribed now
        :raises UsageError: if it takes no audio of this rate
        """
        ...
