"""Where conversations are kept that may be gone on with elsewhere: the protocol of all stores.

1. A key is the digest of a secret that the caller holds (hexadecimal, 64 characters); the store never sees the secret.
2. Generations fence: who claims a key in a generation owns it from then on. To put or to claim in that generation or
   an earlier one is refused with :class:`FencedError`, by which an owner that was thought gone learns that it is none.
3. So a key is claimed once in each generation; of two who claim at the same moment one is refused.
4. What is kept ends by itself after its seconds, and so does the memory of who claimed it.
5. A store has a bound. One that is full, slow or gone raises :class:`StoreError`; calls go on without it, and cannot
   move.
"""

from typing import Protocol, runtime_checkable

from duplex.errors import DuplexError

__all__ = ["FencedError", "StateStore", "StoreError"]


class StoreError(DuplexError):
    """The store of conversations is full, does not answer, or has gone."""


class FencedError(StoreError):
    """Somebody else has claimed the conversation, in this generation or a later one."""


@runtime_checkable
class StateStore(Protocol):
    """Keeps bytes under keys for some seconds. Its methods may be called by several servers at once.

    Each of them changes all or nothing. Whoever calls sets a limit to the time that a call may take, and cancels it.
    """

    async def put(self, key: str, generation: int, data: bytes, seconds: float) -> None:
        """Keep ``data`` under ``key`` for so many ``seconds``, in place of what an earlier ``put`` kept there.

        :raises FencedError: if the key has been claimed in this generation or a later one
        :raises StoreError: if there is no room, or the store does not answer
        """
        ...

    async def claim(self, key: str, generation: int, seconds: float) -> bytes | None:
        """Own ``key`` in ``generation``: take out what is kept under it, ``None`` if there is nothing.

        That it was claimed is remembered for ``seconds``, also where nothing was kept.

        :raises FencedError: if the key has been claimed in this generation or a later one
        :raises StoreError: if the store does not answer
        """
        ...

    async def discard(self, key: str) -> None:
        """Forget what is kept under a key, because its conversation is over; who claimed it stays remembered.

        :raises StoreError: if the store does not answer
        """
        ...

    async def aclose(self) -> None:
        """Let go of connections; what is kept stays. Calling it twice is harmless."""
        ...
