"""Random crops of a corpus as codes and sound, for a decoder whose encoder is frozen.

A shard is encoded when it is first drawn, whole, as a stream: the codes are then those of use, with all that was said
before. Crops depend on the seed and the step alone, so that a run can be resumed.
"""

import numpy as np
from numpy.typing import NDArray

from duplex.codec import Codec
from duplex.training.codec.crops import Pools, ShardSampler, random_gain
from duplex.training.codec.decoder_settings import DecoderSettings
from duplex.training.data.corpus import Corpus, Shard

__all__ = ["CodedCropSampler"]

Float32 = NDArray[np.float32]
Codes = NDArray[np.int64]


class CodedCropSampler(ShardSampler[tuple[Codes, Float32]]):
    """Samples codes, int64 ``[batch, codebooks, context + frames]``, and the sound of the frames.

    The sound is float32 ``[batch, frames * frame_size]``; the context's is not needed.

    :raises CorpusError: if no shard is as long as a crop with its context
    """

    def __init__(self, corpus: Corpus, settings: DecoderSettings, codec: Codec) -> None:
        frames = settings.context_frames + settings.crop_frames
        super().__init__(corpus, settings, frames, codec.spec.frame_size)
        self._settings = settings
        self._codec = codec
        self._frame = codec.spec.frame_size
        self._coded: dict[int, tuple[np.float32, Codes]] = {}
        self._places = {id(shard): place for place, shard in enumerate(corpus.shards)}

    def sample(self, pools: Pools, rng: np.random.Generator) -> tuple[Codes, Float32]:
        """Return crops as codes, and their sound."""
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
