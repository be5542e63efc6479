"""Where the sound of a shard comes from: a voice that says made-up sentences, noise, or recordings."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.audio.decoding import Decoder
from duplex.training.data.corpus import Utterance
from duplex.training.data.sentences import sentence
from duplex.training.data.surroundings import noise, placed
from duplex.training.data.synthesizers import SAMPLE_RATE, SYNTHESIZERS
from duplex.training.data.voices import Role, Voice

__all__ = ["Noise", "Recorded", "Sound", "SoundSource", "Spoken"]

Float32 = NDArray[np.float32]
NOISE_SECONDS = 10
LONGEST_PAUSE = 2.0


@attrs.frozen(kw_only=True, eq=False)
class Sound:
    """What a microphone hears, what is meant to be heard in it (without room and noise), and what is said."""

    heard: Float32
    meant: Float32
    utterances: Sequence[Utterance] = ()


class SoundSource(Protocol):
    """Makes the sound of one shard, at 24 kHz."""

    @property
    def voice(self) -> str:
        """Who speaks."""
        ...

    @property
    def role(self) -> Role:
        """Whose part it is in a dialogue."""
        ...

    @property
    def needs(self) -> tuple[str, ...]:
        """The modules and programs that must be installed."""
        ...

    def make(self, seconds: float, rng: np.random.Generator) -> Sound:
        """Return about so many seconds."""
        ...


@attrs.frozen
class Spoken:
    """Sentences with pauses; a user's in rooms and noise, the agent's as it is."""

    cast: Voice

    @property
    def voice(self) -> str:
        """The voice's name."""
        return self.cast.name

    @property
    def role(self) -> Role:
        """The voice's part."""
        return self.cast.role

    @property
    def needs(self) -> tuple[str, ...]:
        """What the voice's engine needs."""
        return SYNTHESIZERS[self.cast.engine].NEEDS

    def make(self, seconds: float, rng: np.random.Generator) -> Sound:
        """Speak until the time is up."""
        meant: list[Float32] = []
        heard: list[Float32] = []
        utterances: list[Utterance] = []
        samples = 0
        while samples < seconds * SAMPLE_RATE:
            text = sentence(rng)
            speech = self.cast.speak(text, rng)
            pause = round(min(rng.exponential(0.25) + 0.05, LONGEST_PAUSE) * SAMPLE_RATE)
            utterances.append(Utterance(text, samples, samples + len(speech)))
            piece = np.pad(speech, (0, pause))
            meant.append(piece)
            heard.append(piece if self.role == "agent" else placed(piece, SAMPLE_RATE, rng))
            samples += len(piece)
        return Sound(heard=np.concatenate(heard), meant=np.concatenate(meant), utterances=utterances)


@attrs.frozen
class Noise:
    """Many kinds of noise, ten seconds each, in which nothing is meant."""

    voice: str = "noise"
    role: Role = "user"
    needs: tuple[str, ...] = ()

    def make(self, seconds: float, rng: np.random.Generator) -> Sound:
        """Make noise."""
        count = max(1, round(seconds / NOISE_SECONDS))
        length = NOISE_SECONDS * SAMPLE_RATE
        heard = np.concatenate([noise(length, SAMPLE_RATE, rng, rng.uniform(-55, -20)) for _ in range(count)])
        return Sound(heard=heard, meant=np.zeros_like(heard))


@attrs.frozen
class Recorded:
    """A stretch of one recording, from ``start`` seconds on."""

    path: Path
    voice: str
    role: Role
    start: float
    needs: tuple[str, ...] = ()

    def make(self, seconds: float, rng: np.random.Generator) -> Sound:  # noqa: ARG002 -- nothing is drawn
        """Decode the stretch.

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
        return Sound(heard=pcm, meant=pcm)
