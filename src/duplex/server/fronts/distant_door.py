"""The admission to a model of another process, as calls here know it: it decides, and tells who is where."""

from collections.abc import Mapping, Sequence

from duplex.server.admission import Refusal
from duplex.server.fronts.messages import Link

__all__ = ["DistantDoor"]


class DistantDoor:
    """The places of a model, the ``model``-th of the server, and the queue in front of them."""

    def __init__(self, link: Link, model: int) -> None:
        self.draining: bool = False
        """Whether nobody is let in any more."""
        self.talking: int = 0
        self.waiting: int = 0
        self._full = False
        self._link = link
        self._model = model
        self._positions: Mapping[int, int] = {}

    @property
    def full(self) -> bool:
        """Whether the next caller would be sent away."""
        return self.draining or self._full

    async def enter(self, address: str) -> int | Refusal:
        """Take in a caller, or say why not.

        :raises ServerError: if the model's process has ended
        """
        if self.draining:
            return Refusal.DRAINING
        answer = await self._link.ask_to_the_end("enter", model=self._model, address=address)
        if "refusal" in answer:
            return Refusal(answer["refusal"])
        caller: int = answer["caller"]
        return caller

    def position(self, caller: int) -> int:
        """Return a caller's place in the queue, from 1; 0 is one who may talk."""
        return self._positions[caller]

    def leave(self, caller: int) -> None:
        """Let a caller go, from a place or from the queue."""
        self._link.tell("leave", model=self._model, caller=caller)

    def note(self, counts: Sequence[int], positions: Mapping[int, int]) -> None:
        """Take how many talk and wait, whether that is all there can be, and where this front's callers are."""
        self.talking, self.waiting, full = counts
        self._full = bool(full)
        self._positions = positions
