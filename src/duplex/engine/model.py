"""A loaded model: what :func:`duplex.load` returns and conversations share."""

import warnings
import weakref
from collections.abc import Callable, Mapping
from functools import cached_property
from types import TracebackType
from typing import Any, Self, TypeAlias

from duplex.backends.shared.memory import Memory
from duplex.backends.shared.process import OwnProcess
from duplex.checkpoints.conditioning import ConditionerConfig
from duplex.checkpoints.kind_configs import SttConfig, TtsConfig
from duplex.checkpoints.layout import DEFAULT_OPTIONS
from duplex.checkpoints.model_card import ModelCard
from duplex.checkpoints.tokenizer import Tokenizer
from duplex.checkpoints.voices import Voices
from duplex.codec import Codec
from duplex.engine.detector_worker import DetectorWorker
from duplex.engine.engine import Engine
from duplex.engine.seating import EngineSeating, Seating
from duplex.errors import ClosedError
from duplex.frame_model import FrameModel, ModelSpec
from duplex.options import SessionOptions, unknown_adapter
from duplex.prompting.voices import VoiceCodes
from duplex.voice_activity.protocol import VoiceActivity
from duplex.voice_activity.silero import SileroVoiceActivity

__all__ = ["Model", "VoiceActivityFactory"]

VoiceActivityFactory: TypeAlias = Callable[[int], VoiceActivity]


class Model:
    """A model in memory, with the one thread that steps it. Close it, or use it in a ``with`` block.

    One that nobody refers to any more is closed, with a ``ResourceWarning``, and so is what is left when the program
    ends. A process that was forked from this one cannot use it.

    Several event loops may hold conversations on one model at a time, up to :attr:`sessions` in all.
    """

    def __init__(  # noqa: PLR0913 -- what is known of a model
        self,
        frame_model: FrameModel,
        tokenizer: Tokenizer,
        *,
        name: str,
        backend: str = "custom",
        device: str = "",
        dtype: str = "",
        revision: str | None = None,
        fingerprint: str = "",
        adapter: str | None = None,
        defaults: SessionOptions | None = None,
        stt: SttConfig | None = None,
        tts: TtsConfig | None = None,
        conditioners: Mapping[str, ConditionerConfig] | None = None,
        voice_activity: VoiceActivityFactory = SileroVoiceActivity,
        voices: Voices | None = None,
        card: ModelCard | None = None,
        memory: Callable[[], Memory] | None = None,
    ) -> None:
        self.name = name
        self.backend: str = backend
        """``"torch"`` or ``"mlx"``, or what a model of another kind was given."""
        self.device: str = device
        """``"cpu"``, ``"cuda:1"`` and the like; never ``"auto"``."""
        self.dtype: str = dtype
        """``"float32"`` or ``"bfloat16"``: what the weights are computed with, also if they are stored quantized."""
        self.revision = revision
        self.adapter = adapter
        """What was added to the weights, by the name that it was given by; ``None`` if nothing was."""
        self.fingerprint = fingerprint
        self.defaults: SessionOptions = defaults or DEFAULT_OPTIONS
        self.stt = stt
        """How a recognition model lies in time; ``None`` for other models."""
        self.conditioners: Mapping[str, ConditionerConfig] = conditioners or {}
        """What its sessions can be conditioned on."""
        self.tts = tts
        """How a model of synthesis lies in time; ``None`` for other models."""
        self.tokenizer = tokenizer
        self._process = OwnProcess()
        self.engine: Engine = Engine(frame_model)
        self._closed = False
        self._free = weakref.finalize(self, self.engine.close)
        self.seating: Seating = EngineSeating(self.engine)
        """Gives conversations their seats."""
        self.frame_model = frame_model
        """Runs the model's steps; while there are conversations, only :attr:`engine` may step it."""
        self.detectors: DetectorWorker = DetectorWorker()
        self._free.detach()
        self._free = weakref.finalize(self, _free, self.engine, self.detectors)
        self.voices: Voices = voices or Voices(None)
        """The voices that came with the checkpoint."""
        self.voice_codes: VoiceCodes = VoiceCodes()
        """Of voices that conversations began with."""
        self._card = card or ModelCard(None)
        self._predict_memory = memory
        self.voice_activity = voice_activity
        """Returns a new detector of speech for one conversation, for audio of a sample rate."""

    def __repr__(self) -> str:
        places = "closed" if self._closed else f"{self.free} of {self.sessions} sessions free"
        described = ", ".join(word for word in (self.backend, self.device, self.dtype, places) if word)
        return f"<duplex.Model {self.name!r}: {described}>"

    @property
    def spec(self) -> ModelSpec:
        """What goes in and comes out."""
        return self.frame_model.spec

    @property
    def products(self) -> Mapping[str, str]:
        """How its weights lie in memory, by product, where that was chosen for this machine; often empty."""
        return getattr(self.frame_model, "products", {})

    @cached_property
    def memory(self) -> int | None:
        """Bytes of its device that were predicted for it; ``None`` if nobody knows. The first time takes a moment."""
        return None if self._predict_memory is None else self._predict_memory().total

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names of those that a session may choose for itself (:attr:`duplex.SessionOptions.adapter`); often none."""
        return tuple(getattr(self.frame_model, "adapters", ()))

    def check_adapter(self, options: SessionOptions) -> str | None:
        """Return the fingerprint of the adapter that a session asks for; ``None`` if it asks for none.

        :raises UsageError: if there is none of this name
        """
        if options.adapter is None:
            return None
        if options.adapter not in self.adapters:
            raise unknown_adapter(options.adapter, self.adapters)
        known: Mapping[str, str] = getattr(self.frame_model, "adapters", {})
        return known[options.adapter]

    @property
    def examples(self) -> tuple[str, ...]:
        """What one may say to it, as its model card tells; often empty."""
        return self._card.examples

    @property
    def codec(self) -> Codec:
        """The model's codec; safe to use while conversations go on.

        :raises ClosedError: after :meth:`close`
        :raises ForkError: in another process than the one that loaded it
        """
        self._process.check("the model")
        if self._closed:
            raise ClosedError("the model has been closed; load it again")
        return self.frame_model.codec

    @property
    def sessions(self) -> int:
        """Number of conversations that can run side by side."""
        return self.spec.capacity

    @property
    def free(self) -> int:
        """Number of further conversations that can start now."""
        return self.seating.free

    @property
    def closed(self) -> bool:
        """Whether it has been closed."""
        return self._closed

    def close(self) -> None:
        """End all conversations with :class:`~duplex.errors.ClosedError` and free the memory. Twice is harmless."""
        self._closed = True
        self._free()

    def __del__(self, _warn: Any = warnings.warn) -> None:
        # Before it is freed: by what the constructor has registered, which also works when the program ends.
        if not getattr(self, "_closed", True) and not self._process.forked:
            _warn(
                f"the model {self.name!r} was forgotten; use it in a with block, or call close()",
                ResourceWarning,
                source=self,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _free(engine: Engine, detectors: DetectorWorker) -> None:
    """Stop a model's threads and free its memory, when it is closed or forgotten, or the program ends."""
    engine.close()
    detectors.close()
