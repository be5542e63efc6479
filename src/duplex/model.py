"""A loaded model: what :func:`load` returns and conversations share."""

import functools
from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal, Self

import anyio.to_thread

from duplex import checkpoint
from duplex.checkpoint import Checkpoint
from duplex.engine import Engine
from duplex.errors import CheckpointError, ClosedError, MissingDependencyError, UsageError
from duplex.frame_model import Codec, FrameModel, ModelSpec, SessionOptions
from duplex.session import Session
from duplex.tokenizer import PieceDecoder, Tokenizer
from duplex.voice_activity import SileroVoiceActivity, VoiceActivity

__all__ = ["Backend", "Model", "load", "load_async", "load_codec"]

Backend = Literal["auto", "torch", "mlx"]
VoiceActivityFactory = Callable[[int], VoiceActivity]


class Model:
    """A model in memory, with the one thread that steps it. Close it, or use it in a ``with`` block.

    Several event loops may hold conversations on one model at a time, up to :attr:`sessions` in all.
    """

    def __init__(
        self,
        frames: FrameModel,
        tokenizer: Tokenizer,
        *,
        name: str,
        revision: str | None = None,
        fingerprint: str = "",
        defaults: SessionOptions | None = None,
        voice_activity: VoiceActivityFactory = SileroVoiceActivity,
    ) -> None:
        self.name = name
        self.revision = revision
        self.fingerprint = fingerprint
        self.defaults = defaults or SessionOptions(
            temperature=0.8, text_temperature=0.7, top_k=250, text_top_k=25, seed=0
        )
        self.tokenizer = tokenizer
        self.engine = Engine(frames)
        self._frames = frames
        self._voice_activity = voice_activity
        self._closed = False

    @property
    def spec(self) -> ModelSpec:
        """What goes in and comes out."""
        return self._frames.spec

    @property
    def codec(self) -> Codec:
        """The model's codec; safe to use while conversations go on.

        :raises ClosedError: after :meth:`close`
        """
        if self._closed:
            raise ClosedError("the model has been closed; load it again")
        return self._frames.codec

    @property
    def sessions(self) -> int:
        """How many conversations fit side by side."""
        return self.spec.capacity

    @property
    def free(self) -> int:
        """How many more conversations fit now."""
        return self.engine.free

    def session(self) -> Session:
        """Return the event side of one conversation."""
        spec = self.spec
        decoder = PieceDecoder(self.tokenizer, spec.text_padding, spec.text_end_of_padding)
        return Session(spec, decoder, self._voice_activity(spec.sample_rate))

    def close(self) -> None:
        """End all conversations with :class:`~duplex.errors.ClosedError` and free the memory. Twice is harmless."""
        self._closed = True
        self.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def load(
    name: str = "tiny",
    *,
    backend: Backend = "auto",
    device: str = "auto",
    dtype: str = "auto",
    quantize: str | None = None,
    sessions: int = 1,
    deterministic: bool = False,
    revision: str | None = None,
) -> Model:
    """Load a model: a built-in name, a folder, or a hub repository such as ``"kyutai/moshika-pytorch-bf16"``.

    ``sessions`` conversations can then run side by side. ``device`` is ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or
    ``"auto"``; ``dtype`` is ``"float32"``, ``"bfloat16"`` or ``"auto"`` (bfloat16 on CUDA and Metal, float32 on CPU).
    With ``deterministic`` a conversation's tokens do not depend on its neighbours, at the price of stepping each alone.

    :raises CheckpointError: if the checkpoint cannot be found, read or run
    :raises UsageError: if an argument is out of range or not available here
    :raises MissingDependencyError: if the backend is not installed
    """
    if sessions < 1:
        raise UsageError(f"sessions is {sessions}; give 1 or more")
    loader = _backend(backend)
    found = checkpoint.resolve(name, revision=revision)
    if found.language_model is None or found.weights is None or found.mimi_weights is None:
        raise CheckpointError(f"{name} holds a codec only; use duplex.load_codec, or name a dialogue model")
    if found.tokenizer is None:
        raise CheckpointError(f"{name} has no tokenizer; set 'tokenizer_name' in its config.json")
    tokenizer = Tokenizer.load(found.tokenizer)
    tokenizer.check_vocabulary(found.language_model.text_card)
    frames = loader.load_model(
        found.language_model,
        found.mimi,
        weights=found.weights,
        mimi_weights=found.mimi_weights,
        fingerprint=found.fingerprint,
        device=device,
        dtype=dtype,
        quantize=quantize,
        sessions=sessions,
        deterministic=deterministic,
    )
    return Model(
        frames,
        tokenizer,
        name=name,
        revision=found.revision,
        fingerprint=found.fingerprint,
        defaults=found.defaults,
    )


async def load_async(name: str = "tiny", **options: Any) -> Model:
    """Load a model as :func:`load` does, without blocking the event loop."""
    return await anyio.to_thread.run_sync(functools.partial(load, name, **options))


def load_codec(
    name: str = "tiny", *, backend: Backend = "auto", device: str = "auto", revision: str | None = None
) -> Codec:
    """Load Mimi alone, with the codebooks that the checkpoint's language model uses (all, if it has none).

    :raises CheckpointError: if the checkpoint cannot be found, read or run
    :raises MissingDependencyError: if the backend is not installed
    """
    loader = _backend(backend)
    found: Checkpoint = checkpoint.resolve(name, revision=revision, parts=("codec",))
    if found.mimi_weights is None:
        raise CheckpointError(f"{name} has no codec weights; set 'mimi_name' in its config.json")
    model = found.language_model
    codebooks = found.mimi.quantizer.n_q if model is None else model.codebooks
    return loader.load_codec(found.mimi, found.mimi_weights, codebooks=codebooks, device=device)


def _backend(name: Backend) -> Any:
    """Return the backend's package."""
    if name == "mlx":
        raise MissingDependencyError("the MLX backend is not part of this version; use backend='torch'")
    if name not in {"auto", "torch"}:
        raise UsageError(f"there is no backend {name!r}; use 'auto' or 'torch'")
    from duplex.backends import torch as loader  # noqa: PLC0415 -- only who loads a model needs a backend

    return loader
