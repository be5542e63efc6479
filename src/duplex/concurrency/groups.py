"""The error that ends a group of tasks, for callers who know nothing of a group."""

import contextlib
from collections.abc import Generator
from typing import cast

import anyio

__all__ = ["first_error", "ungrouped"]


def first_error(error: BaseException) -> BaseException:
    """Return the first error in nested exception groups that is not a cancellation; call it in an event loop."""
    while isinstance(error, BaseExceptionGroup):
        within = cast("BaseExceptionGroup[BaseException]", error).exceptions
        error = next((each for each in within if not isinstance(each, anyio.get_cancelled_exc_class())), within[0])
    return error


@contextlib.contextmanager
def ungrouped() -> Generator[None]:
    """Raise the first error of a group in place of the group, around ``async with anyio.create_task_group()``."""
    try:
        yield
    except BaseExceptionGroup as group:
        raise first_error(group) from None
