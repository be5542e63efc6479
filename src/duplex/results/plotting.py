"""The door to matplotlib, which is optional."""

from importlib import import_module
from typing import Any

from duplex.extras import require

__all__ = ["new_figure", "require_matplotlib"]


def require_matplotlib() -> None:
    """Complain now rather than when there is something to draw.

    :raises MissingDependencyError: if matplotlib is not installed
    """
    _figures()


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure, of a size in inches; it belongs to no window.

    :raises MissingDependencyError: if matplotlib is not installed
    """
    return _figures().Figure(figsize=(width, height), layout="constrained")


def _figures() -> Any:
    require("plot", "matplotlib", purpose="a plot")
    return import_module("matplotlib.figure")
