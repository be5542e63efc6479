"""From a name to a model in memory: what can be chosen about it, and what it will take."""

import functools
import importlib
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import anyio.to_thread
import attrs

from duplex.arguments import parameters_of
from duplex.backends.selection import select_backend
from duplex.backends.shared.memory import Memory
from duplex.backends.shared.model_spec import model_spec
from duplex.backends.shared.placement import Placement
from duplex.checkpoints import checkpoint
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.checkpoints.tokenizer import Tokenizer
from duplex.codec import Codec, CodecSpec
from duplex.engine.model import Model, VoiceActivityFactory
from duplex.errors import AudioFileError, UsageError
from duplex.frame_model import ModelSpec
from duplex.options import Backend, CacheDtype, Dtype, Quantization, SessionOptions, check_sessions
from duplex.parsing import shown
from duplex.prompting.building import check_persona, check_prompt
from duplex.voice_activity.pauses import PAUSE_HEAD, PauseVoiceActivity
from duplex.voice_activity.silero import SileroVoiceActivity

__all__ = ["check_beginning", "check_choice", "load", "load_async", "load_codec", "predict_memory"]

logger: logging.Logger = logging.getLogger(__name__)
ADAPTER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What sessions may call one of several adapters."""


def load(  # noqa: PLR0913 -- what can be chosen about a model
    name: str = "tiny",
    *,
    backend: Backend = "auto",
    device: str = "auto",
    dtype: Dtype = "auto",
    quantize: Quantization | None = None,
    cache_dtype: CacheDtype = "auto",
    sessions: int = 1,
    deterministic: bool = False,
    revision: str | None = None,
    adapter: str | None = None,
    adapters: Mapping[str, str] | None = None,
    guidance: bool | None = None,
) -> Model:
    """Load a model: a built-in name, a folder, or a hub repository such as ``"kyutai/moshika-pytorch-bf16"``.

    ``sessions`` conversations can then run side by side. ``backend`` is ``"torch"``, ``"mlx"`` or ``"auto"``, which
    takes MLX on Apple silicon and where torch is not installed, else torch, and tells the ``duplex`` logger so.
    ``device`` is ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"gpu"`` (Apple's) or ``"auto"``; ``dtype`` is ``"float32"``,
    ``"bfloat16"`` or ``"auto"`` (bfloat16 on a GPU, float32 on CPU). ``quantize`` holds the large weights as
    ``"int8"``, ``"int4"`` or, with torch on GPUs that have it, ``"fp8"``; ``cache_dtype`` ``"int8"``, with torch, the
    key/value cache of the temporal transformer: less memory, and steps that are faster by as much as they read less,
    for tokens that now and then differ.
    ``adapter`` is a fine-tune's LoRA, which is added to the weights: a safetensors file, a folder that has one with its
    ``config.json``, or a hub repository (``owner/name`` or ``owner/name@revision``); left out, the checkpoint's own.
    ``adapters``, with torch, are several of those by name, each beside the weights: a session may choose one of them
    (:attr:`duplex.SessionOptions.adapter`), or none.
    With ``deterministic`` a conversation's tokens do not depend on its neighbours, at the price of stepping each alone.
    With ``guidance`` conversations may have it (:attr:`duplex.SessionOptions.guidance`), at the price of a second row
    of the language model for every one; ``None`` has it where the checkpoint's sessions use it by default.

    :raises CheckpointError: if the checkpoint cannot be found, read or run
    :raises UsageError: if an argument is out of range or not available here
    :raises MissingDependencyError: if the backend is not installed
    """
    sessions = check_sessions(sessions)
    check_choice(backend=backend, device=device, dtype=dtype, quantize=quantize, cache_dtype=cache_dtype)
    _check_adapters(adapter, adapters, backend, device)
    found = checkpoint.resolve(name, revision=revision, adapter=adapter, adapters=adapters)
    # A checkpoint that was resolved with all its parts has them all.
    config, weights, mimi_weights, pieces = cast(
        "tuple[LanguageModelConfig, Path, Path, Path]",
        (found.language_model, found.weights, found.mimi_weights, found.tokenizer),
    )
    tokenizer = Tokenizer.load(pieces)
    tokenizer.check_vocab_size(config.text_card)
    loader = _backend(backend, device, tell=True)
    frame_model = loader.load_model(
        config,
        found.mimi,
        weights=weights,
        mimi_weights=mimi_weights,
        fingerprint=found.fingerprint,
        device=device,
        dtype=dtype,
        quantize=quantize,
        cache_dtype=cache_dtype,
        sessions=sessions,
        deterministic=deterministic,
        adapter=found.adapter,
        guidance=_guided(found.defaults, guidance, config),
        **({} if found.tts is None else {"tts": found.tts}),
        **({"adapters": found.adapters} if found.adapters else {}),
    )
    for own in (*tuple(found.adapters)[:1], None):
        # What is compiled or traced for a session, before anybody waits for it.
        frame_model.open(0, attrs.evolve(found.defaults, guidance=1.0, adapter=own))
    return Model(
        frame_model,
        tokenizer,
        name=name,
        **attrs.asdict(loader.placement(device, dtype)),
        revision=found.revision,
        fingerprint=found.fingerprint,
        adapter=None if found.adapter is None else found.adapter.pinned,
        defaults=found.defaults,
        stt=found.stt,
        tts=found.tts,
        conditioners=config.conditioners,
        voice_activity=_detector(frame_model.spec),
        voices=found.voices,
        card=found.card,
        memory=functools.partial(
            _predicted,
            loader,
            found,
            device=device,
            dtype=dtype,
            quantize=quantize,
            cache_dtype=cache_dtype,
            sessions=sessions,
            guidance=_guided(found.defaults, guidance, config),
        ),
    )


def _predicted(loader: Any, found: checkpoint.Checkpoint, **how: Any) -> Memory:
    """Return what was predicted for a model that has been loaded."""
    headers = tuple(checkpoint.read_header(path) for path in (found.weights, found.mimi_weights) if path is not None)
    own = {"adapters": [each.info for each in found.adapters.values()]} if found.adapters else {}
    predicted: Memory = loader.predict_memory(found.language_model, found.mimi, headers, **how, **own)
    return predicted


def _check_adapters(adapter: str | None, adapters: Mapping[str, str] | None, backend: Backend, device: str) -> None:
    """Check that a model can be loaded with adapters for its sessions.

    :raises UsageError: if not, or a name is none
    """
    for name in adapters or ():
        if not ADAPTER_NAME.fullmatch(name):
            raise UsageError(
                f"{shown(name)} is no name for an adapter; give 1 to 64 letters, digits, dots, dashes and underscores"
            )
    if adapters and adapter is not None:
        raise UsageError("adapter is added to the weights, for all sessions, and adapters are for each; give one")
    if adapters and not _backend(backend, device).OWN_ADAPTERS:
        raise UsageError(
            "sessions with adapters of their own need the torch backend; use backend='torch', or adapter= for all"
        )


def _detector(spec: ModelSpec) -> VoiceActivityFactory:
    """Return what detects speech: the model's own heads, where they tell pauses."""
    if spec.extra_heads > PAUSE_HEAD:
        return functools.partial(_pause_detector, spec.frame_duration)
    return SileroVoiceActivity


def _pause_detector(frame_duration: float, _: int) -> PauseVoiceActivity:
    return PauseVoiceActivity(frame_duration)


def _guided(defaults: SessionOptions | None, guidance: bool | None, config: LanguageModelConfig) -> bool:
    """Return whether a model is loaded with guidance; one that has it as a condition needs no second row."""
    if guidance is not None:
        return guidance
    return defaults is not None and defaults.guidance not in (None, 1) and "cfg" not in config.conditioners


@parameters_of(load)
async def load_async(*args: Any, **kwargs: Any) -> Model:
    """Load a model without blocking the event loop; takes the arguments of :func:`load`, and raises what it raises."""
    return await anyio.to_thread.run_sync(functools.partial(load, *args, **kwargs))


def load_codec(
    name: str = "tiny",
    *,
    backend: Backend = "auto",
    device: str = "auto",
    quantize: Quantization | None = None,
    revision: str | None = None,
) -> Codec:
    """Load Mimi alone, with the codebooks that the checkpoint's language model uses (all, if it has none).

    ``quantize="int8"`` rounds the weights of its transformers, with torch: faster on a CPU, and some codes are others.

    :raises CheckpointError: if the checkpoint cannot be found, read or run
    :raises UsageError: if an argument is out of range or not available here
    :raises MissingDependencyError: if the backend is not installed
    """
    check_choice(backend=backend, device=device, quantize=quantize)
    found = checkpoint.resolve(name, revision=revision, parts=("codec",))
    weights = cast("Path", found.mimi_weights)  # the part that was asked for
    loader = _backend(backend, device, tell=True)
    return loader.load_codec(found.mimi, weights, codebooks=found.codebooks, device=device, quantize=quantize)


def predict_memory(
    described: checkpoint.CheckpointInfo,
    *,
    backend: Backend = "auto",
    device: str = "auto",
    dtype: Dtype = "auto",
    quantize: Quantization | None = None,
    cache_dtype: CacheDtype = "auto",
    sessions: int = 1,
    guidance: bool | None = None,
) -> Memory | None:
    """Return the memory that a model takes, loaded as :func:`load` does; ``None`` for a codec alone.

    :raises UsageError: if an argument is out of range or not available here
    :raises MissingDependencyError: if the backend is not installed
    """
    sessions = check_sessions(sessions)
    if described.language_model is None or described.weights is None:
        return None
    predicted: Memory = _backend(backend, device).predict_memory(
        described.language_model,
        described.mimi,
        (described.weights, described.mimi_weights),
        device=device,
        dtype=dtype,
        quantize=quantize,
        cache_dtype=cache_dtype,
        sessions=sessions,
        guidance=_guided(described.defaults, guidance, described.language_model),
        **({"adapters": described.adapters} if described.adapters else {}),
    )
    return predicted


def check_choice(
    *,
    backend: Backend = "auto",
    device: str = "auto",
    dtype: Dtype = "auto",
    quantize: Quantization | None = None,
    cache_dtype: CacheDtype = "auto",
) -> None:
    """Check how a model is to be loaded, before anything is downloaded; :func:`load` does so by itself.

    :raises UsageError: if an argument is out of range or not available here
    :raises MissingDependencyError: if the backend is not installed
    """
    _backend(backend, device).check(device, dtype, quantize, cache_dtype)


def check_beginning(found: checkpoint.Checkpoint, options: SessionOptions) -> None:
    """Check the persona that conversations with a checkpoint's model shall begin with, before it is loaded.

    :raises UsageError: if the model takes none, it is too long, or there is no such voice, or none can be read
    """
    check_persona(found.model_type, options)
    config, tokenizer = found.language_model, found.tokenizer
    if (options.instructions is None and options.voice is None) or config is None or tokenizer is None:
        return
    mimi = found.mimi
    codec = CodecSpec(
        sample_rate=mimi.sample_rate,
        frame_size=mimi.frame_size,
        codebooks=found.codebooks,
        vocabulary=mimi.quantizer.bins,
    )
    try:
        check_prompt(model_spec(config, codec, sessions=1), Tokenizer.load(tokenizer), found.voices, options)
    except AudioFileError as error:
        raise UsageError(str(error)) from error


def placement_of(backend: Backend = "auto", device: str = "auto", dtype: Dtype = "auto") -> Placement:
    """Return where a model loaded with these arguments would run on this machine, and with which dtype.

    :raises UsageError: if the device cannot be used here
    """
    return _backend(backend, device).placement(device, dtype)


def _backend(name: Backend, device: str, *, tell: bool = False) -> Any:
    """Return the backend's package; ``tell`` logs which it is, and why."""
    chosen = select_backend(name, device)
    if tell:
        logger.info("backend %s: %s", chosen.backend, chosen.why)
    return importlib.import_module(f"duplex.backends.{chosen.backend}")
