"""The frames of a seat on its time line: those that wait for the model or its result, and how they are saved."""

import time
from collections.abc import Collection, Mapping
from itertools import pairwise

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.errors import StateError
from duplex.frame_model import FrameModel, ModelSpec
from duplex.synthesis.protocol import Says

__all__ = ["PendingFrame", "read_time_line", "time_line_tensors"]

Float32 = NDArray[np.float32]
LONGEST = 1 << 40
"""Frames that a time line may have, thousands of years: places on it are exact as floating numbers."""


@attrs.frozen(eq=False)
class PendingFrame:
    """A user frame that waits for the model or its result: its index on the time line, its float32 ``[frame_size]``.

    ``since`` is when it was pushed, on the monotonic clock.
    """

    index: int
    pcm: Float32
    since: float = attrs.field(factory=time.monotonic)
    ends_source: bool = False
    """Whether it carries no audio, but tells a model that translates that the source has ended."""
    inserted: bool = False
    """Whether it is silence that takes no time on the time line: ``index`` is that of the frame after it."""


def time_line_tensors(
    reached: int, prompted: int, pending: Collection[PendingFrame], spec: ModelSpec
) -> dict[str, NDArray[np.generic]]:
    """Return the tensors of a time line: the index that comes next, and the frames whose results are to come."""
    return {
        "seat.index": np.array([reached, *(frame.index for frame in pending)], np.int64),
        "seat.prompted": np.array(prompted, np.int64),
        "seat.pcm": np.array([frame.pcm for frame in pending], np.float32).reshape(-1, spec.frame_size),
    }


def read_time_line(
    tensors: Mapping[str, NDArray[np.generic]], model: FrameModel
) -> tuple[int, int, list[PendingFrame]]:
    """Return what :func:`time_line_tensors` was given, of a model with the same delays.

    :raises StateError: if it is damaged
    """
    spec = model.spec
    latency = spec.latency_frames + (1 + model.delay_steps if isinstance(model, Says) else 0)  # after its text
    try:
        index, pcm = tensors["seat.index"], tensors["seat.pcm"]
        prompted = int(tensors["seat.prompted"]) if "seat.prompted" in tensors else 0  # not in older states
        reached, *pending = np.atleast_1d(index).tolist()
    except (KeyError, ValueError) as error:
        raise StateError(f"the saved conversation has no time line ({error}); export it anew") from error
    places = [-1, *pending, reached, LONGEST]
    fits = pcm.shape == (len(pending), spec.frame_size) and len(pending) <= latency
    numbers = index.dtype == np.int64 and pcm.dtype == np.float32 and bool(np.isfinite(pcm).all())
    if not (numbers and fits) or any(later <= earlier for earlier, later in pairwise(places)):
        raise StateError("the saved conversation's time line does not fit this model; export it anew")
    return reached, prompted, [PendingFrame(index, heard) for index, heard in zip(pending, pcm, strict=True)]
