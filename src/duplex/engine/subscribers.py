"""Who wants to be told of something, for as long as a ``with`` block goes on."""

import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

__all__ = ["Subscribers"]

Subscriber = TypeVar("Subscriber")


class Subscribers(Generic[Subscriber]):
    """A set of subscribers, from any thread: ``with subscribers(one): ...`` adds one, iterating gives all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: list[Subscriber] = []

    @contextmanager
    def __call__(self, subscriber: Subscriber) -> Generator[None]:
        """Subscribe for the duration of a ``with`` block."""
        with self._lock:
            self._all.append(subscriber)
        try:
            yield
        finally:
            with self._lock:
                self._all.remove(subscriber)

    def __iter__(self) -> Iterator[Subscriber]:
        with self._lock:
            return iter(list(self._all))
