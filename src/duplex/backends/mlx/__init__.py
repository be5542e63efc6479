"""The MLX backend, for Apple silicon; on Linux it runs on the CPU."""

import importlib
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from duplex.backends.shared.memory import Memory
from duplex.backends.shared.placement import Placement
from duplex.checkpoints.adapters import Adapter
from duplex.checkpoints.kind_configs import TtsConfig
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.checkpoints.mimi_config import MimiConfig
from duplex.checkpoints.stored_weights import read_header
from duplex.checkpoints.weight_names import WeightsLayout
from duplex.checkpoints.weights_file import Header
from duplex.codec import Codec
from duplex.errors import MissingDependencyError, UsageError
from duplex.extras import install_command
from duplex.frame_model import FrameModel

if TYPE_CHECKING:
    import mlx.core as mx

__all__ = [
    "OLDEST",
    "available_memory",
    "check",
    "convert_weights",
    "load_codec",
    "load_model",
    "placement",
    "predict_memory",
    "require",
]

OLDEST = (0, 29)
"""The oldest release of MLX that this backend runs on."""
QUANTIZE = ("int4", "int8")
OWN_ADAPTERS = False
"""Whether sessions of one model may have adapters of their own."""


def require() -> None:
    """Check that MLX can be used here; it is not imported.

    :raises MissingDependencyError: if it is not installed, or too old
    :raises UsageError: on a Mac that it does not run on
    """
    if sys.platform == "darwin" and platform.machine() == "x86_64":
        raise UsageError("MLX needs a Mac with Apple silicon, and this one has an Intel processor; use backend='torch'")
    try:
        found = version("mlx")
    except PackageNotFoundError:
        raise MissingDependencyError(
            f"the MLX backend is not installed; install it with: {install_command('mlx')}"
        ) from None
    if tuple(int(part) for part in found.split(".")[:2]) < OLDEST:
        oldest = ".".join(str(part) for part in OLDEST)
        raise MissingDependencyError(
            f"MLX {found} is too old, {oldest} or newer is needed; {install_command('mlx')} --upgrade"
        )


def check(device: str, dtype: str = "auto", quantize: str | None = None, cache_dtype: str = "auto") -> None:
    """Check how a model is to be loaded, before anything is downloaded.

    :raises UsageError: if the device, the dtype or the quantization cannot be used here
    :raises MissingDependencyError: if MLX is not installed, or too old
    """
    require()
    if quantize is not None and quantize not in QUANTIZE:
        raise UsageError(f"quantize={quantize!r} is not known; use 'int4', 'int8', or leave it out")
    if dtype not in ("auto", "float32", "bfloat16"):
        raise UsageError(f"dtype {dtype!r} is not known; use 'float32', 'bfloat16' or 'auto'")
    if cache_dtype != "auto":
        raise UsageError(f"cache_dtype={cache_dtype!r} is not available with MLX; leave it out")
    _device(device)


def placement(device: str, dtype: str) -> Placement:
    """Return where a model with these arguments runs.

    :raises UsageError: if the device cannot be used here
    """
    place = _device(device)
    return Placement(backend="mlx", device="gpu" if _on_gpu(place) else "cpu", dtype=_numbers(dtype, place))


def load_codec(config: MimiConfig, weights: Path, *, codebooks: int, device: str, quantize: str | None) -> Codec:
    """Load Mimi alone.

    :raises WeightsError: if the file is damaged or does not fit the configuration
    :raises UsageError: if the device cannot be used here, or it is to be quantized
    :raises MissingDependencyError: if MLX is not installed, or too old
    """
    check(device)
    if quantize is not None:
        raise UsageError("the MLX backend runs the codec in float32; leave quantize out, or use backend='torch'")
    from duplex.backends.mlx.codec import MlxCodec, load_mimi  # noqa: PLC0415 -- only who asks for it needs mlx
    from duplex.backends.mlx.state import exclusive  # noqa: PLC0415

    place = _device(device)
    with exclusive(place):
        return MlxCodec(load_mimi(config, weights, codebooks), place)


def load_model(
    config: LanguageModelConfig,
    mimi_config: MimiConfig,
    *,
    weights: Path,
    mimi_weights: Path,
    fingerprint: str,
    device: str,
    dtype: str,
    quantize: str | None,
    cache_dtype: str,
    sessions: int,
    deterministic: bool,
    adapter: Adapter | None = None,
    guidance: bool = False,
    tts: TtsConfig | None = None,
) -> FrameModel:
    """Load a dialogue model, with an adapter added to its weights.

    A session has the second row of ``guidance`` if it asks for one; here that only says that there must be room for it.

    :raises WeightsError: if a file is damaged or does not fit the configuration
    :raises UsageError: as :func:`check` does, or if the model does not fit into the machine's memory
    :raises MissingDependencyError: if MLX is not installed, or too old
    """
    check(device, dtype, quantize, cache_dtype)
    from duplex.backends.mlx.codec import load_mimi  # noqa: PLC0415 -- only who asks for it needs mlx
    from duplex.backends.mlx.language_model import load_language_model  # noqa: PLC0415
    from duplex.backends.mlx.memory import check_memory  # noqa: PLC0415
    from duplex.backends.mlx.model import MlxFrameModel  # noqa: PLC0415
    from duplex.backends.mlx.speech_script import speech_script  # noqa: PLC0415
    from duplex.backends.mlx.state import exclusive  # noqa: PLC0415
    from duplex.backends.mlx.weights import PACKINGS  # noqa: PLC0415

    place = _device(device)
    numbers = _numbers(dtype, place)
    headers = read_header(weights), read_header(mimi_weights)
    chosen: dict[str, Any] = {"dtype": numbers, "quantize": quantize, "sessions": sessions, "device": place}
    check_memory(config, *headers, guidance=guidance, **chosen)
    packing = None if quantize is None else PACKINGS[quantize]
    kind = _core().float32 if numbers == "float32" else _core().bfloat16
    with exclusive(place):
        language_model = load_language_model(config, weights, dtype=kind, packing=packing, adapter=adapter)
        mimi = load_mimi(mimi_config, mimi_weights, config.codebooks)
        if tts is not None:
            language_model.script = speech_script(language_model, tts, mimi_config.frame_rate)
    return MlxFrameModel(
        mimi,
        language_model,
        device=place,
        dtype=kind,
        numbers=numbers if quantize is None else f"{numbers} {quantize}",
        sessions=sessions,
        deterministic=deterministic,
        compiled=_on_gpu(place),
        fingerprint=fingerprint,
    )


def predict_memory(
    config: LanguageModelConfig,
    mimi_config: MimiConfig,  # noqa: ARG001 -- PyTorch needs it
    headers: tuple[Header, Header],
    *,
    device: str,
    dtype: str,
    quantize: str | None,
    cache_dtype: str,
    sessions: int,
    guidance: bool = False,
) -> Memory:
    """Return what a model takes, loaded so; ``headers`` are those of its two weights files.

    :raises UsageError: as :func:`check` does
    :raises MissingDependencyError: if MLX is not installed, or too old
    """
    check(device, dtype, quantize, cache_dtype)
    from duplex.backends.mlx.memory import predict  # noqa: PLC0415 -- only who asks for it needs mlx

    place = _device(device)
    numbers = _numbers(dtype, place)
    chosen: dict[str, Any] = {"dtype": numbers, "quantize": quantize, "sessions": sessions, "device": place}
    return predict(config, *headers, guidance=guidance, **chosen)


def available_memory(device: str) -> int | None:
    """Return the bytes that models may take of a device.

    :raises UsageError: if the device cannot be used here
    """
    from duplex.backends.mlx.memory import available  # noqa: PLC0415 -- only who asks for it needs mlx

    return available(_device(device))


def convert_weights(
    config: LanguageModelConfig,
    source: Path,
    target: Path,
    *,
    layout: WeightsLayout,
    quantize: str | None,
    adapter: Adapter | None = None,
) -> None:
    """Write a language model's weights anew, in either layout, in bfloat16 or quantized, with an adapter added to them.

    :raises WeightsError: if the source is damaged, or does not fit the configuration
    :raises UsageError: if it is quantized already, or cannot be quantized as asked
    """
    from duplex.backends.mlx import convert  # noqa: PLC0415 -- only who asks for it needs mlx
    from duplex.backends.mlx.state import exclusive  # noqa: PLC0415
    from duplex.backends.mlx.weights import PACKINGS  # noqa: PLC0415

    packing = None if quantize is None else PACKINGS[quantize]
    with exclusive(_device("cpu")):
        convert.convert_weights(config, source, target, layout=layout, packing=packing, adapter=adapter)


def _core() -> Any:
    return importlib.import_module("mlx.core")


def _on_gpu(device: "mx.Device") -> bool:
    return device.type == _core().gpu


def _device(name: str) -> "mx.Device":
    core = _core()
    found: mx.Device = core.default_device()
    if name == "auto":
        return found
    if name not in ("cpu", "gpu"):
        raise UsageError(f"the MLX backend runs on 'cpu' and 'gpu', not on {name!r}")
    if name == "gpu" and not _on_gpu(found):
        raise UsageError("MLX finds no GPU here; use device='cpu'")
    device: mx.Device = core.Device(core.gpu if name == "gpu" else core.cpu)
    return device


def _numbers(dtype: str, device: "mx.Device") -> str:
    if dtype == "auto":
        return "bfloat16" if _on_gpu(device) else "float32"
    return dtype
