"""What a session is conditioned on, checked against what its model knows: the same on any backend."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from duplex.checkpoints.conditioning import ConditionerConfig
from duplex.errors import UsageError
from duplex.frame_model import Conditions
from duplex.parsing import shown

__all__ = ["check_names", "given_vectors", "word_index"]


def check_names(conditioners: Mapping[str, ConditionerConfig], conditions: Conditions) -> None:
    """Check that a model has the conditions that a session names.

    :raises UsageError: if one is unknown, or of the other kind
    """
    for kind, what, given in (("lut", "words", conditions.words), ("tensor", "vectors", conditions.vectors)):
        known = [name for name, each in conditioners.items() if each.kind == kind]
        unknown = sorted(set(given) - set(known))
        if unknown:
            have = ", ".join(known) or "none"
            raise UsageError(f"this model has no condition {shown(unknown[0])} of {what}; it has {have}")


def word_index(name: str, config: ConditionerConfig, conditions: Conditions) -> int | None:
    """Return the row of a condition's word in its table; ``None`` where the session names none.

    :raises UsageError: if it is not in the table
    """
    word = conditions.words.get(name)
    if word is None:
        return None
    if word not in config.values:
        raise UsageError(f"{name} is {shown(word)}; this model knows {', '.join(config.values)}")
    return config.values.index(word)


def given_vectors(
    name: str, config: ConditionerConfig, conditions: Conditions
) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
    """Return a condition's sequence, float32 ``[n, dim]``, and its mask bool ``[n]``; ``None`` where none is given.

    :raises UsageError: if the vectors are of another width, or are none
    """
    given = conditions.vectors.get(name)
    if given is None:
        return None
    if given.ndim != 2 or given.shape[1] != config.dim or not len(given):  # noqa: PLR2004
        raise UsageError(f"{name} is {list(given.shape)}; give one vector or more of {config.dim} numbers each")
    return given.astype(np.float32), conditions.masks.get(name, np.ones(len(given), np.bool_))
