"""Memory that a model takes, and a check that it is there, before anything is loaded."""

from collections.abc import Iterable

import attrs

from duplex.errors import UsageError

__all__ = ["Memory", "check_fits"]


@attrs.frozen(kw_only=True)
class Memory:
    """Bytes on the device. ``how`` says in which numbers, such as ``quantize='int8'``."""

    how: str
    weights: int
    session: int
    """Of each place for a conversation, its whole past included."""
    sessions: int
    step: int
    """What a step needs besides."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.sessions * self.session + self.step

    def fitting(self, there: int) -> int:
        """Return how many sessions fit into so many bytes."""
        return max(0, (there - self.weights - self.step) // self.session)


def check_fits(wanted: Memory, there: int | None, device: str, smaller: Iterable[Memory]) -> None:
    """Check that a device has the memory; ``there`` is what it has free, ``None`` if that is not known.

    :raises UsageError: telling how many sessions would fit, or which of ``smaller``, for one session each, would
    """
    if there is None or wanted.total <= there:
        return
    problem = (
        f"{_named(wanted.sessions)} of this model {'needs' if wanted.sessions == 1 else 'need'} {_gigabytes(wanted)} "
        f"({wanted.how}) and {device} has {there / 1e9:.1f} GB free"
    )
    fits = [choice for choice in smaller if choice.total <= there]
    advice: list[str] = []
    if few := wanted.fitting(there):
        advice.append(f"sessions={few} would fit")
    if fits:
        many = min(fits[0].fitting(there), wanted.sessions)
        advice.append(f"{fits[0].how} with sessions={many} would fit")
    raise UsageError(f"{problem}; {' and '.join(advice) or 'choose a smaller model, or a device with more memory'}")


def _named(sessions: int) -> str:
    return "1 session" if sessions == 1 else f"{sessions} sessions"


def _gigabytes(memory: Memory) -> str:
    return f"{memory.total / 1e9:.1f} GB"
