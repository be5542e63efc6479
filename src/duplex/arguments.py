"""What a caller passes: numbers, checked and made plain Python, and the parameters of functions that pass them on."""

import functools
import inspect
import operator
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np

from duplex.errors import UsageError
from duplex.parsing import shown

__all__ = ["as_float", "as_int", "parameters_of"]

P = ParamSpec("P")
R = TypeVar("R")


def as_int(name: str, value: Any) -> int:
    """Return an integer of any type (Python's, numpy's) as an ``int``; ``name`` is the argument's, for messages.

    :raises UsageError: if it is not an integer
    """
    if not isinstance(value, bool):
        try:
            return operator.index(value)
        except TypeError:
            pass
    raise UsageError(f"{name} is {shown(value)}; give a whole number")


def as_float(name: str, value: Any) -> float:
    """Return a number of any type as a ``float``; ``name`` is the argument's, for messages.

    :raises UsageError: if it is not a number, or NaN
    """
    if not isinstance(value, bool | np.bool_ | str | bytes | bytearray):
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = float("nan")
        if number == number:  # noqa: PLR0124 -- NaN is not itself
            return number
    raise UsageError(f"{name} is {shown(cast(object, value))}; give a number")


def parameters_of(
    function: Callable[P, R],
) -> Callable[[Callable[..., Coroutine[Any, Any, R]]], Callable[P, Coroutine[Any, Any, R]]]:
    """Give the decorated coroutine function, which passes its arguments on, the parameters of ``function``.

    Type checkers, ``help`` and errors about arguments see them as its own.
    """
    signature = inspect.signature(function)

    def decorate(wrapped: Callable[..., Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
        @functools.wraps(wrapped)
        def call(*args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
            try:
                signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{wrapped.__name__}() {error}") from None
            return wrapped(*args, **kwargs)

        call.__signature__ = signature  # pyright: ignore[reportAttributeAccessIssue] -- what inspect looks for
        return call

    return decorate
