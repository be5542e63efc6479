"""``mlx.nn.Module`` in a form that is known to type checkers, also to those of an installed package.

They do not look into the source files of a namespace package, which ``mlx`` is, so a class derived from MLX's own would
have an unknown base for every user of this package.
"""

from typing import TYPE_CHECKING, Any

__all__ = ["Module"]

if TYPE_CHECKING:

    class Module(dict[str, Any]):
        """The base class of MLX's modules: its parameters and submodules are its attributes."""

        def parameters(self) -> dict[str, Any]:
            """Return the arrays of this module and of those below it, as a tree."""
            ...

        def named_modules(self) -> list[tuple[str, "Module"]]:
            """Return this module and those below it, with their paths."""
            ...

else:
    from mlx.nn import Module
