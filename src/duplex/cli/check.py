"""One finding of ``duplex doctor``."""

from typing import Literal, TypeAlias

import attrs

__all__ = ["Check", "State"]

State: TypeAlias = Literal["ok", "note", "broken"]


@attrs.frozen
class Check:
    """One line of the findings. ``mend`` is a command, or what else to do."""

    name: str
    state: State
    found: str
    mend: str = ""
