"""The door to TorchScript, which traces a step so that it runs without Python, and which is deprecated.

Where a release of PyTorch has it no more, :data:`AVAILABLE` is false, and everything runs as it is written.
"""

import functools
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch

__all__ = ["AVAILABLE", "as_traced", "compiled", "script", "trace", "tracing", "unoptimized"]

F = TypeVar("F", bound=Callable[..., Any])
_JIT: Any = getattr(torch, "jit", None)
AVAILABLE = all(hasattr(_JIT, name) for name in ("trace", "script", "is_tracing", "CompilationUnit"))
"""Whether this PyTorch has it."""


def tracing() -> bool:
    """Return whether a step is being recorded."""
    return AVAILABLE and _JIT.is_tracing()


def trace(function: F, arguments: tuple[Any, ...]) -> F:
    """Run a function of tensors, and return what it did to them as a program."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program: Any = _JIT.trace(function, arguments, check_trace=False)
    return _own(program)


def _own(program: Any) -> Any:
    """Return a copy of what has been traced, which is freed with its last reference.

    PyTorch itself keeps every traced function for ever, and the weights in it: that one is emptied.
    """
    create: Any = getattr(getattr(torch, "_C", None), "_create_function_from_graph", None)
    if create is None:
        return program
    graph = program.graph
    own = create("step", graph.copy())
    while list(graph.outputs()):
        graph.eraseOutput(0)
    for node in reversed(list(graph.nodes())):
        node.destroy()
    return own


@functools.cache
def script(function: F) -> F:
    """Return a function as a part of programs that decides when it runs, and not when it is recorded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted: Any = _JIT.script(function)
    return scripted


def as_traced(function: F) -> F:
    """Return a function as it is or, while a step is being recorded, as a part of it: see :func:`script`."""
    return script(function) if tracing() else function


@functools.cache
def compiled(source: str, name: str) -> Callable[..., Any]:
    """Return a function from its source, in TorchScript's own types."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        function: Any = getattr(_JIT.CompilationUnit(source), name)
    return function


def unoptimized() -> AbstractContextManager[None]:
    """Run programs as they were recorded: optimizing takes as long again for every new shape."""
    context: Any = _JIT.optimized_execution(False)
    return context
