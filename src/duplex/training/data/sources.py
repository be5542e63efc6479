"""Audio sources of a corpus: a voice that speaks random sentences, noise, or recordings."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.audio.decoding import Decoder
from duplex.training.data.augmentation import augment, noise
from duplex.training.data.corpus import Utterance
from duplex.training.data.sentences import sentence
from duplex.training.data.synthesizers import SAMPLE_RATE, SYNTHESIZERS
from duplex.training.data.voices import Role, Voice

__all__ = ["NoiseSource", "RecordedSource", "Sound", "SoundSource", "SpokenSource"]

Float32 = NDArray[np.float32]
NOISE_SECONDS = 10
LONGEST_PAUSE = 2.0


@attrs.frozen(kw_only=True, eq=False)
class Sound:
    """Audio with augmentation (``noisy``) and without (``clean``), and the utterances in it."""

    noisy: Float32
    clean: Float32
    utterances: Sequence[Utterance] = ()


class SoundSource(Protocol):
    """Generates the audio of one shard, at 24 kHz."""

    @property
    def voice(self) -> str:
        """The voice's name."""
        ...

    @property
    def role(self) -> Role:
        """The voice's role in a dialogue."""
        ...

    @property
    def requirements(self) -> tuple[str, ...]:
        """The modules and programs that must be installed."""
        ...

    def make(self, seconds: float, rng: np.random.Generator) -> Sound:
        """Return about ``seconds`` seconds of audio."""
        ...


@attrs.frozen
class SpokenSource:
    """Random sentences with pauses; a user's are augmented, the agent's are clean."""

    speaker: Voice

    @property
    def voice(self) -> str:
        """The voice's name."""
        return self.speaker.name

    @property
    def role(self) -> Role:
        """The voice's role."""
        return self.speaker.role

    @property
    def requirements(self) -> tuple[str, ...]:
        """The requirements of the voice's synthesizer."""
        return SYNTHESIZERS[self.speaker.engine].REQUIREMENTS

    def make(self, seconds: float, rng: np.random.Generator) -> Sound:
        """Return about ``seconds`` seconds of sentences."""
        clean: list[Float32] = []
        noisy: list[Float32] = []
        utterances: list[Utterance] = []
        samples = 0
        while samples < seconds * SAMPLE_RATE:
            text = sentence(rng)
            speech = self.speaker.speak(text, rng)
            pause = round(min(rng.exponential(0.25) + 0.05, LONGEST_PAUSE) * SAMPLE_RATE)
            utterances.append(Utterance(text, samples, samples + len(speech)))
            piece = np.pad(speech, (0, pause))
            clean.append(piece)
            noisy.append(piece if self.role == "agent" else augment(piece, SAMPLE_RATE, rng))
            samples += len(piece)
        return Sound(noisy=np.concatenate(noisy), clean=np.concatenate(clean), utterances=utterances)


@attrs.frozen
class NoiseSource:
    """Random noises of ten seconds each; the clean audio is silence."""

    voice: str = "noise"
    role: Role = "user"
    requirements: tuple[str, ...] = ()

    def make(self, seconds: float, rng: np.random.Generator) -> Sound:
        """Return about ``seconds`` seconds of noise."""
        count = max(1, round(seconds / NOISE_SECONDS))
        length = NOISE_SECONDS * SAMPLE_RATE
        noisy = np.concatenate([noise(length, SAMPLE_RATE, rng, rng.uniform(-55, -20)) for _ in range(count)])
        return Sound(noisy=noisy, clean=np.zeros_like(noisy))


@attrs.frozen
class RecordedSource:
    """A part of one recording, from ``start`` seconds on."""

    path: Path
    voice: str
    role: Role
    start: float
    requirements: tuple[str, ...] = ()

    def make(self, seconds: float, rng: np.random.Generator) -> Sound:  # noqa: ARG002 -- nothing is drawn
        """Decode that part.

        :raises AudioFileError: if the recording is damaged, or holds NaN or infinity
        """
        first, last = round(self.start * SAMPLE_RATE), round((self.start + seconds) * SAMPLE_RATE)
        decoder = Decoder(self.path, SAMPLE_RATE, "mix")
        pieces: list[Float32] = []
        position = 0
        try:
            while position < last and (piece := decoder.read()) is not None:
                pieces.append(piece[max(0, first - position) : last - position])
                position += len(piece)
        finally:
            decoder.close()
        pcm = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
        return Sound(noisy=pcm, clean=pcm)
