"""A voice that a model of synthesis goes on from: its codes come first, without a text.

The sound of such a model comes ``delay_steps`` after its text, and so do the codes of the voice: the text is held back
for as many steps as the voice has frames, and begins while the last codes of the voice are still to come. The columns
of the prompt are those of the steps before; the model itself puts in what comes later (``Prompt.voice``).
"""

import numpy as np
from numpy.typing import NDArray

from duplex.frame_model import ZERO, ModelSpec
from duplex.prompting.prompt import Prompt

__all__ = ["imitation_prompt"]


def imitation_prompt(
    spec: ModelSpec, codes: NDArray[np.int64], *, delay_steps: int, codebooks: int | None = None
) -> Prompt:
    """Return the prompt for a voice's codes int64 ``[agent_streams, n]``, n at least 2, in the first ``codebooks``.

    :raises UsageError: if it is longer than what the model remembers
    """
    said = codes.copy()
    said[len(codes) if codebooks is None else codebooks :] = ZERO
    count = codes.shape[1]
    columns = np.full((spec.streams, count - 1), ZERO, np.int64)
    agent = slice(spec.text_streams, spec.text_streams + spec.agent_streams)
    columns[agent, delay_steps:] = said[:, : max(count - 1 - delay_steps, 0)]
    prompt = Prompt(columns, voice=said, later=delay_steps + 1)
    prompt.check(spec)
    return prompt
