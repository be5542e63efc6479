"""Memory that a model takes, and a check that it is there, before anything is loaded."""

from collections.abc import Iterable, Sequence

import attrs

from duplex.errors import UsageError

__all__ = ["Memory", "SharedMemory", "check_fits"]


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


@attrs.frozen(kw_only=True)
class SharedMemory:
    """What several models take of one device, side by side: ``models`` are names, each with its own memory.

    ``there`` is what the device has for them, in bytes, ``None`` if that is not known.
    """

    device: str
    models: Sequence[tuple[str, Memory]]
    there: int | None

    @property
    def total(self) -> int:
        """All of it."""
        return sum(memory.total for _, memory in self.models)

    def __str__(self) -> str:
        """Return it in a line: the sum, what there is, and the share of each."""
        each = ", ".join(
            f"{name} {_gigabytes(memory.total)} ({_named(memory.sessions)})" for name, memory in self.models
        )
        there = "" if self.there is None else f" of {_gigabytes(self.there)}"
        return f"memory on {self.device}: {_gigabytes(self.total)}{there}: {each}"

    def check(self) -> None:
        """Check that the device has it; of one model alone that is for loading to say.

        :raises UsageError: if not, telling which number of sessions each would fit
        """
        if self.there is None or self.total <= self.there or len(self.models) == 1:
            return
        spare = self.there - sum(memory.weights + memory.step for _, memory in self.models)
        few = spare // sum(memory.session for _, memory in self.models)
        fewer = f"sessions={few} each would fit" if few > 0 else "serve fewer of them, or smaller ones"
        each = ", ".join(f"{name} {_gigabytes(memory.total)}" for name, memory in self.models)
        raise UsageError(
            f"{len(self.models)} models need {_gigabytes(self.total)} together ({each}) and {self.device} has "
            f"{_gigabytes(self.there)} for them; {fewer}"
        )


def check_fits(wanted: Memory, there: int | None, device: str, smaller: Iterable[Memory]) -> None:
    """Check that a device has the memory; ``there`` is what it has free, ``None`` if that is not known.

    :raises UsageError: telling how many sessions would fit, or which of ``smaller``, for one session each, would
    """
    if there is None or wanted.total <= there:
        return
    problem = (
        f"{_named(wanted.sessions)} of this model {'needs' if wanted.sessions == 1 else 'need'} "
        f"{_gigabytes(wanted.total)} ({wanted.how}) and {device} has {_gigabytes(there)} free"
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


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
