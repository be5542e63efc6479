"""A model that costs nothing: the agent says what the user says, and a word every fifth frame. It keeps no state."""

from collections.abc import Iterator
from typing import cast

import numpy as np
from numpy.typing import NDArray

from duplex.checkpoints.tokenizer import Tokenizer
from duplex.codec import CodecSpec
from duplex.engine.model import Model
from duplex.errors import StateError
from duplex.frame_model import ModelSpec, SessionState, StepResult
from duplex.options import SessionOptions
from duplex.testing import FakeCodec, FakeTokenizer

PADDING, WORD, EVERY = 3, 8, 5


class StandIn:
    """A :class:`duplex.frame_model.FrameModel`."""

    def __init__(self, capacity: int) -> None:
        self.spec = ModelSpec(
            sample_rate=24000,
            frame_size=1920,
            text_streams=1,
            agent_streams=1,
            user_streams=1,
            text_vocabulary=32,
            audio_vocabulary=16,
            text_padding=PADDING,
            text_end_of_padding=0,
            delays=(0, 0, 0),
            context=250,
            capacity=capacity,
        )
        self.codec = FakeCodec(CodecSpec(sample_rate=24000, frame_size=1920, codebooks=1, vocabulary=16))
        self._steps = np.zeros(capacity, np.int64)
        self._codes = np.zeros((capacity, 1), np.int64)

    def open(self, slot: int, options: SessionOptions) -> None:  # noqa: ARG002 -- nothing is sampled
        """Begin."""
        self._steps[slot] = 0

    def prefill(self, slot: int, tokens: NDArray[np.int64]) -> None:
        """Forget a prompt."""

    def step(self, pcm: NDArray[np.float32], active: NDArray[np.bool_]) -> StepResult:
        """Give back what was said."""
        self._steps += active
        text = np.where(self._steps % EVERY == 0, WORD, PADDING)
        return StepResult(
            valid=active, time_step=self._steps - 1, pcm=pcm, text=text, agent=self._codes, user=self._codes
        )

    def export(self, slot: int) -> SessionState:
        """Refuse."""
        raise StateError(f"slot {slot} keeps no state")

    def restore(self, slot: int, state: SessionState) -> Iterator[None]:
        """Refuse."""
        raise StateError(f"slot {slot} takes no state, not even {state.metadata}")

    def close(self) -> None:
        """Do nothing: there is nothing to free."""


def stand_in(capacity: int) -> Model:
    """Return a whole model, with the real detector of speech."""
    frame_model = StandIn(capacity)
    return Model(frame_model, cast("Tokenizer", FakeTokenizer(frame_model.spec.text_vocabulary)), name="stand-in")
