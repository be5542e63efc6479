"""A session's conditions as part of its exported state: words in the metadata, vectors and masks beside its tensors."""

import json
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from duplex.backends.shared.slots import LONGEST_LIFE
from duplex.frame_model import Conditions
from duplex.parsing import parse_json

__all__ = ["checked_conditions", "condition_tensors", "describe_conditions"]

PREFIX = "conditions."
MAX_VECTORS = 1 << 16
"""Of one sequence; the published ones have 625."""


def describe_conditions(conditions: Conditions | None) -> str:
    """Return as JSON all of a session's conditions but the vectors, of which it has the names."""
    return json.dumps(None if conditions is None else _described(conditions))


def _described(conditions: Conditions) -> dict[str, Any]:
    found: dict[str, Any] = {"words": dict(conditions.words)}
    if conditions.vectors:
        found["vectors"] = list(conditions.vectors)
    if conditions.masked_until:
        found["masked_until"] = conditions.masked_until
    if conditions.null is not None:
        found["null"] = _described(conditions.null)
    return found


def condition_tensors(conditions: Conditions | None, prefix: str = PREFIX) -> dict[str, NDArray[np.generic]]:
    """Return the vectors and masks of a session's conditions, by names of a state's tensors."""
    if conditions is None:
        return {}
    found: dict[str, NDArray[np.generic]] = {}
    for name, vectors in conditions.vectors.items():
        found[f"{prefix}vectors.{name}"] = vectors
        found[f"{prefix}masks.{name}"] = conditions.masks.get(name, np.ones(len(vectors), np.bool_))
    return found | condition_tensors(conditions.null, f"{prefix}null.")


def checked_conditions(text: str, tensors: Mapping[str, NDArray[np.generic]]) -> Conditions | None:
    """Return the conditions that a state holds; whether the model has them is for it to say.

    :raises ValueError: if they are damaged
    """
    values: Any = parse_json(text)
    return None if values is None else _checked(values, tensors, PREFIX, deep=False)


def _checked(values: Any, tensors: Mapping[str, NDArray[np.generic]], prefix: str, *, deep: bool) -> Conditions:
    known = {"words", "vectors", "masked_until"}
    if not isinstance(values, dict) or not set(cast("dict[str, Any]", values)) <= (known if deep else known | {"null"}):
        raise ValueError("its conditions are damaged")
    found = cast("dict[str, Any]", values)
    words, names, masked = found.get("words", {}), found.get("vectors", []), found.get("masked_until", 0)
    if not isinstance(words, dict) or not isinstance(names, list) or type(masked) is not int:
        raise ValueError("its conditions are damaged")
    named, chosen = cast("list[Any]", names), cast("dict[Any, Any]", words)
    texts = [each for pair in chosen.items() for each in pair] + named
    if not all(isinstance(each, str) for each in texts) or not 0 <= masked <= LONGEST_LIFE:
        raise ValueError("its conditions are damaged")
    vectors = {name: _vectors(tensors[f"{prefix}vectors.{name}"]) for name in named}
    masks = {name: _mask(tensors[f"{prefix}masks.{name}"], len(vectors[name])) for name in named}
    null = found.get("null")
    return Conditions(
        words=chosen,
        vectors=vectors,
        masks=masks,
        null=None if null is None else _checked(null, tensors, f"{prefix}null.", deep=True),
        masked_until=masked,
    )


def _vectors(array: NDArray[np.generic]) -> NDArray[np.float32]:
    held = np.asarray(array)
    if held.dtype != np.float32 or held.ndim != 2 or not len(held) <= MAX_VECTORS:  # noqa: PLR2004
        raise ValueError(f"its conditions' vectors are {held.dtype} {list(held.shape)}")
    if not np.isfinite(held).all():
        raise ValueError("its conditions' vectors have NaN or infinity")
    return cast("NDArray[np.float32]", held)


def _mask(array: NDArray[np.generic], length: int) -> NDArray[np.bool_]:
    held = np.asarray(array)
    if held.dtype != np.bool_ or held.shape != (length,):
        raise ValueError(f"its conditions' mask is {held.dtype} {list(held.shape)}")
    return cast("NDArray[np.bool_]", held)
