"""Random crops of a corpus as codes and sound, for a decoder whose encoder is frozen.

A shard is encoded when it is first drawn, whole, as a stream: the codes are then those of use, with all that was said
before. Crops depend on the seed and the step alone, so that a run can be resumed.
"""

import numpy as np
from numpy.typing import NDArray

from duplex.codec import Codec
from duplex.errors import CorpusError
from duplex.training.codec.adversarial_settings import AdversarialSettings
from duplex.training.codec.crops import VALIDATION_SEED, Pools, last_of_each_voice, random_gain
from duplex.training.data.corpus import Corpus, Shard

__all__ = ["CodedCropSampler"]

Float32 = NDArray[np.float32]
Codes = NDArray[np.int64]


class CodedCropSampler:
    """Samples crops for training and validation; the last shard of every voice with several is for validation.

    :raises CorpusError: if no shard is as long as a crop with its context
    """

    def __init__(self, corpus: Corpus, settings: AdversarialSettings, codec: Codec) -> None:
        self._settings = settings
        self._codec = codec
        self._frame = codec.spec.frame_size
        self._coded: dict[int, tuple[np.float32, Codes]] = {}
        self._places = {id(shard): place for place, shard in enumerate(corpus.shards)}
        frames = settings.context_frames + settings.crop_frames
        long_enough = [shard for shard in corpus.shards if len(shard.pcm) >= frames * self._frame]
        if not long_enough:
            raise CorpusError(f"{corpus.folder} has no shard of {frames} frames; make longer ones")
        kept = last_of_each_voice(corpus.shards)
        self._training = Pools([shard for shard in long_enough if id(shard) not in kept] or long_enough)
        self._validation = Pools([shard for shard in long_enough if id(shard) in kept] or long_enough)

    def batch(self, step: int, rank: int = 0) -> tuple[Codes, Float32]:
        """Return a step's codes, int64 ``[batch, codebooks, context + frames]``, and the sound of the frames.

        The sound is float32 ``[batch, frames * frame_size]``; the context's is not needed.
        """
        return self._sample(self._training, np.random.default_rng((self._settings.seed, rank, step)))

    def validation(self, index: int) -> tuple[Codes, Float32]:
        """Return a batch of the validation set, the same one for each index."""
        return self._sample(self._validation, np.random.default_rng((VALIDATION_SEED, index)))

    def _sample(self, pools: Pools, rng: np.random.Generator) -> tuple[Codes, Float32]:
        context, frames = self._settings.context_frames, self._settings.crop_frames
        columns: list[Codes] = []
        sounds: list[Float32] = []
        for _ in range(self._settings.batch):
            shard = pools.draw(rng, self._settings.agent_share)
            gain, codes = self._encoded(shard)
            start = int(rng.integers(len(codes[0]) - context - frames + 1))
            end = start + context + frames
            columns.append(codes[:, start:end])
            sounds.append(gain * _floats(shard.pcm[(start + context) * self._frame : end * self._frame]))
        return np.stack(columns), np.stack(sounds)

    def _encoded(self, shard: Shard) -> tuple[np.float32, Codes]:
        """Return a shard's gain, one of its own, and its codes at that level."""
        if id(shard) not in self._coded:
            rng = np.random.default_rng((self._settings.seed, self._places[id(shard)]))
            pcm = _floats(shard.pcm[: len(shard.pcm) // self._frame * self._frame])
            gain = random_gain(pcm, shard.role, rng)
            self._coded[id(shard)] = gain, self._codec.encode(gain * pcm)
        return self._coded[id(shard)]


def _floats(pcm: NDArray[np.int16]) -> Float32:
    return pcm.astype(np.float32) / np.float32(2**15)
