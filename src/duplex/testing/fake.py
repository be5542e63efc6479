"""What a fake frame model needs to be a whole model: words for its tokens, and a detector of speech."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from duplex.audio.pcm import level_dbfs
from duplex.checkpoints.tokenizer import SPACE, PieceKind, Tokenizer
from duplex.engine.model import Model
from duplex.errors import StateError
from duplex.frame_model import Frame
from duplex.options import SessionOptions
from duplex.testing.fake_frame_model import FakeFrameModel
from duplex.voice_activity.protocol import VoiceActivity

__all__ = ["FakeTokenizer", "LevelVoiceActivity", "fake_model"]

Float32 = NDArray[np.float32]


class FakeTokenizer:
    """Says ``" w7"`` for an even token and ``"x8"`` for an odd one, from 4 on; below are control pieces."""

    FIRST = 4

    def __init__(self, vocabulary: int) -> None:
        self.vocab_size = vocabulary

    def kind(self, token: int) -> PieceKind:
        """Return what a token stands for."""
        return PieceKind.TEXT if self.FIRST <= token < self.vocab_size else PieceKind.CONTROL

    def piece(self, token: int) -> str:
        """Return a token's piece."""
        return f"x{token}" if token % 2 else f"{SPACE}w{token}"

    def encode(self, text: str) -> list[int]:
        """Return one token for each word, chosen by its letters."""
        return [self.FIRST + 2 * (sum(word.encode()) % ((self.vocab_size - 4) // 2)) for word in text.split()]

    def check_vocab_size(self, text_card: int) -> None:
        """Accept every model."""


class LevelVoiceActivity:
    """A detector that takes everything above -45 dBFS for speech, in windows of 40 ms."""

    LEVEL = -45.0

    def __init__(self, sample_rate: int) -> None:
        self.window: float = 0.04
        self._samples = round(sample_rate * self.window)
        self._pending = np.zeros(0, np.float32)

    def hear(self, frame: Frame) -> list[float]:
        """Return 1 or 0 for each window that this frame completes."""
        heard = np.concatenate([self._pending, frame.user_pcm])
        whole = len(heard) - len(heard) % self._samples
        self._pending = heard[whole:]
        return [float(level_dbfs(window) > self.LEVEL) for window in heard[:whole].reshape(-1, self._samples)]

    def state(self) -> Mapping[str, Float32]:
        """Return what waits for its window to fill."""
        return {"pending": self._pending}

    def restore(self, state: Mapping[str, Float32]) -> None:
        """Go on where :meth:`state` was taken.

        :raises StateError: if it is damaged
        """
        pending = state.get("pending", np.zeros(self._samples, np.float32))
        if pending.ndim != 1 or len(pending) >= self._samples:
            raise StateError("the voice activity's state is damaged; export the conversation anew")
        self._pending = pending


def fake_model(
    *,
    name: str = "fake",
    defaults: SessionOptions | None = None,
    voice_activity: Callable[[int], VoiceActivity] = LevelVoiceActivity,
    **options: Any,
) -> Model:
    """Return a :class:`duplex.Model` around a :class:`FakeFrameModel`, which takes the ``options``.

    >>> with fake_model(capacity=3) as model:
    ...     model.free
    3
    """
    frame_model = FakeFrameModel(**options)
    tokenizer = cast("Tokenizer", FakeTokenizer(frame_model.spec.text_vocabulary))
    return Model(
        frame_model,
        tokenizer,
        name=name,
        backend="fake",
        device="cpu",
        dtype="float32",
        defaults=defaults,
        voice_activity=voice_activity,
    )
