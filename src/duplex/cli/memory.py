"""Memory that models take, alone and together: for ``duplex info`` and ``duplex doctor``."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from duplex.cli.check import Check
from duplex.cli.text import one_line, size
from duplex.errors import DuplexError, MissingDependencyError, UsageError

if TYPE_CHECKING:
    from duplex.backends.shared.memory import Memory
    from duplex.checkpoints.checkpoint import CheckpointInfo
    from duplex.options import Backend

__all__ = ["memories_of", "memory_as_json", "memory_checks", "memory_rows", "together"]

NUMBERS: tuple[dict[str, Any], ...] = (
    {"dtype": "float32"},
    {"dtype": "bfloat16"},
    {"quantize": "int8"},
    {"quantize": "int8", "cache_dtype": "int8"},
    {"quantize": "int4", "cache_dtype": "int8"},
)
"""Kinds of numbers whose memory is told."""


def memories_of(description: "CheckpointInfo", *, backend: "Backend", device: str, sessions: int) -> "Iterator[Memory]":
    """Yield what the model takes in each kind of numbers; one that is not available here is left out."""
    from duplex.engine.loading import predict_memory  # noqa: PLC0415

    for choice in NUMBERS:
        with contextlib.suppress(UsageError, MissingDependencyError):
            memory = predict_memory(description, backend=backend, device=device, sessions=sessions, **choice)
            if memory is not None:
                yield memory


def memory_as_json(memory: "Memory") -> dict[str, Any]:
    """Return a prediction for machines."""
    sizes = {"weights_bytes": memory.weights, "session_bytes": memory.session, "total_bytes": memory.total}
    return {"how": memory.how, "sessions": memory.sessions, **sizes}


def memory_rows(memories: "Sequence[Memory]") -> list[tuple[str, str]]:
    """Return predictions for people."""
    return [
        (
            f"memory, {memory.how}",
            f"{size(memory.total)}: weights {size(memory.weights)}, and {size(memory.session)} for a session",
        )
        for memory in memories
    ]


def together(models: Sequence[tuple[str, Sequence["Memory"]]]) -> list[dict[str, Any]]:
    """Return the sums of what models take side by side, each in the same kind of numbers, as JSON has them.

    A kind in which one of them is not available is left out.
    """
    of_each = [{memory.how: memory for memory in memories} for _, memories in models]
    common = [how for how in of_each[0] if all(how in each for each in of_each)] if of_each else []
    return [
        {
            "how": how,
            "total_bytes": sum(each[how].total for each in of_each),
            "models": [
                {"name": name, "sessions": each[how].sessions, "total_bytes": each[how].total}
                for (name, _), each in zip(models, of_each, strict=True)
            ],
        }
        for how in common
    ]


def memory_checks(names: Sequence[str], sessions: int) -> Iterator[Check]:
    """Yield, for each device, whether it has the memory for these models, of so many sessions each."""
    from duplex.engine.side_by_side import predict_side_by_side  # noqa: PLC0415 -- `duplex --help` need not wait for it

    try:
        predicted = predict_side_by_side([(name, {"sessions": sessions}) for name in names])
    except DuplexError as error:
        yield Check("models", "broken", one_line(error))
        return
    for shared in predicted:
        found = str(shared).removeprefix(f"memory on {shared.device}: ")
        if shared.there is None or shared.total <= shared.there:
            yield Check(f"memory, {shared.device}", "ok", found)
        else:
            mend = (
                f"--quantize int8, fewer --sessions, or fewer models: {size(shared.total - shared.there)} are missing"
            )
            yield Check(f"memory, {shared.device}", "broken", found, mend)
