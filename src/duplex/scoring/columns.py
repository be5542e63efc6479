"""What a model reads and should write, step by step, when all tokens are known.

Step s reads index ``s - 1`` of every delayed stream and writes index s (:mod:`duplex.backends.shared.delays`), so a
stretch of n time steps is n steps, the initial one included. Of a stream with a delay of d the last d time steps would
be written after the stretch has ended: they are not scored.
"""

import numpy as np
from numpy.typing import NDArray

from duplex.backends.shared.delays import delayed
from duplex.frame_model import UNGENERATED, ModelSpec

__all__ = ["columns_of"]

Int64 = NDArray[np.int64]


def columns_of(tokens: Int64, spec: ModelSpec) -> tuple[Int64, Int64]:
    """Return the inputs ``[streams, n]`` and targets ``[1 + agent_streams, n]`` of tokens int64 ``[streams, n]``."""
    shifted = delayed(tokens, spec.delays)[:, : tokens.shape[1]]
    before = np.full((len(tokens), 1), UNGENERATED, np.int64)
    return np.concatenate([before, shifted[:, :-1]], axis=1), shifted[: 1 + spec.agent_streams]
