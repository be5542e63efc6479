"""Where a conversation's audio comes from and where the agent's goes: the protocol of all transports."""

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

__all__ = ["ExpectantTransport", "InterruptibleTransport", "Transport"]


class Transport(Protocol):
    """One conversation's audio line. All audio is float32 mono at the rate that :meth:`start` was told.

    The methods are called by one conversation: ``start`` first, then ``receive`` from one task and ``send`` from
    another, ``finish`` when the agent's last frame has been sent, ``aclose`` at the end in any case.
    ``duplex.testing.check_transport`` runs the conformance suite on an implementation.
    """

    @property
    def realtime(self) -> bool:
        """Whether the audio comes at the pace of a clock that nobody can hold back (a microphone, a network).

        Then audio that stalls is stood in for by silence and lost time is caught up; otherwise every sample is heard
        and the model's pace holds the transport back.
        """
        ...

    async def start(self, sample_rate: int) -> None:
        """Open the line; ``receive`` and ``send`` carry audio of ``sample_rate`` from now on.

        :raises AudioError: if there is nothing to open
        """
        ...

    async def receive(self) -> NDArray[np.float32]:
        """Wait for the next piece of the user's audio, float32 ``[samples]``, of any length above 0.

        :raises anyio.EndOfStream: when the user's audio is over
        :raises AudioError: if the audio cannot be read any further
        """
        ...

    async def send(self, pcm: NDArray[np.float32]) -> None:
        """Play or store one frame of the agent's audio, float32 ``[frame_size]``, unclipped.

        May wait while the line is busy; a real-time transport bounds what it holds back.
        """
        ...

    async def finish(self) -> None:
        """All of the agent's audio has been sent: play it out, or complete what was written."""
        ...

    async def aclose(self) -> None:
        """Release the line. What was not finished is discarded. Calling it twice is harmless."""
        ...


@runtime_checkable
class ExpectantTransport(Protocol):
    """What a transport may have beside :class:`Transport`, if it is cheaper to give whole frames."""

    def expect(self, samples: int) -> None:
        """Say, before each ``receive``, how many samples are missing to a frame: fewer are of no use before that."""
        ...


@runtime_checkable
class InterruptibleTransport(Protocol):
    """What a live transport may have beside :class:`Transport` whose line can break and be mended.

    While it is interrupted the conversation stands still: no silence stands in for what does not come, and the time
    line passes over the interruption when it is over.
    """

    @property
    def away(self) -> float:
        """Seconds that nobody was on the line before ``start``, of a conversation that goes on from elsewhere."""
        ...

    @property
    def interrupted(self) -> bool:
        """Whether nobody is on the line for now."""
        ...

    async def restored(self) -> int:
        """Wait until somebody is; return how many frames of the agent's voice have been lost."""
        ...
