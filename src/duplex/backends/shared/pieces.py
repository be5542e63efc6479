"""Long work on a slot in pieces, between which the engine steps the slot's neighbours.

A piece is what runs up to the next ``yield``. What a computation needs around it, a setting of the thread or a lock,
must not be left on in between: the thread goes on with other work.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

__all__ = ["each_within", "finish"]


def each_within(context: Callable[[], AbstractContextManager[object]], pieces: Iterator[None]) -> Iterator[None]:
    """Yield after every piece, each of which runs inside of a ``context()`` of its own."""
    while True:
        with context():
            try:
                next(pieces)
            except StopIteration:
                return
        yield


def finish(pieces: Iterator[None]) -> None:
    """Run all pieces at once."""
    for _ in pieces:
        pass
