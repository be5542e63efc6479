"""A model of another process, for conversations of this one: its seats are there, all else that they need is here."""

import weakref
from typing import Any, cast

import anyio.from_thread
import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.backends.shared.process import OwnProcess
from duplex.codec import Codec
from duplex.engine.detector_worker import DetectorWorker
from duplex.engine.model import Model
from duplex.frame_model import ModelSpec
from duplex.prompting.voices import VoiceCodes
from duplex.server.fronts.distant_seats import DistantSeating
from duplex.server.fronts.messages import Link
from duplex.server.fronts.plan import ModelPlan

__all__ = ["DistantModel"]

_OF_PLAN = (
    *("name", "backend", "device", "dtype", "revision", "fingerprint", "adapter", "defaults", "stt", "conditioners"),
    *("tokenizer", "voices", "voice_activity", "memory"),
)


@attrs.frozen(eq=False)
class _VoiceEncoder:
    """The part of a codec that a conversation needs: to encode the voice that it begins with."""

    link: Link
    ring: int

    def encode(self, pcm: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return codes int64 ``[codebooks, n]`` of float32 ``[samples]``; for threads of the event loop."""
        codes: NDArray[np.int64] = anyio.from_thread.run(self._encode, pcm)["codes"]
        return codes

    async def _encode(self, pcm: NDArray[np.float32]) -> dict[str, Any]:
        return await self.link.ask("encode", model=self.ring, pcm=pcm)


@attrs.frozen(eq=False)
class _Described:
    """What is known here of a model that is stepped elsewhere."""

    spec: ModelSpec
    codec: Codec


class DistantModel(Model):
    """A model whose seats are in another process; no engine runs here, and no weights are loaded."""

    def __init__(self, plan: ModelPlan, link: Link, ring: int, seating: DistantSeating) -> None:  # pyright: ignore[reportMissingSuperCall] -- which would start an engine
        described = _Described(plan.spec, cast("Codec", _VoiceEncoder(link, ring)))
        detectors = DetectorWorker()
        vars(self).update(  # the attributes of a model, which says of each what it is
            {name: getattr(plan, name) for name in _OF_PLAN},
            tts=None,
            voice_codes=VoiceCodes(),
            seating=seating,
            frame_model=described,
            detectors=detectors,
        )
        self._examples = plan.examples
        self._adapters = plan.adapters
        self._process = OwnProcess()
        self._closed = False
        self._free = weakref.finalize(self, detectors.close)

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names of those that a session may choose for itself."""
        return self._adapters

    @property
    def examples(self) -> tuple[str, ...]:
        """What one may say to it."""
        return self._examples
