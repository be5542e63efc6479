"""What a conversation is told of a failure of the model, and what is undone after one."""

import copy
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager

from duplex.errors import DuplexError, ModelError

__all__ = ["conversation_error", "undone"]


def conversation_error(error: Exception) -> Exception:
    """Return the error that a conversation raises for an error of the model; each gets its own copy."""
    if isinstance(error, DuplexError):
        return copy.copy(error)
    failure = ModelError(f"the model failed ({type(error).__name__}: {error}); start the conversation again")
    failure.__cause__ = error
    return failure


@contextmanager
def undone(*steps: Callable[[], object]) -> Generator[None]:
    """Undo steps, the last one first, if the block fails."""
    with ExitStack() as failed:
        for step in steps:
            failed.callback(step)
        yield
        failed.pop_all()
