"""The PyTorch backend, for CPU and CUDA."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from duplex.backends.shared.memory import Memory
from duplex.backends.shared.placement import Placement
from duplex.checkpoints.adapters import Adapter, AdapterInfo
from duplex.checkpoints.kind_configs import TtsConfig
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.checkpoints.mimi_config import MimiConfig
from duplex.checkpoints.weights_file import Header
from duplex.codec import Codec
from duplex.errors import UsageError
from duplex.extras import require
from duplex.frame_model import FrameModel

if TYPE_CHECKING:
    import torch

    from duplex.backends.torch.quantize import Kind

__all__ = ["available_memory", "check", "load_codec", "load_model", "placement", "predict_memory"]

FIRST_WITH_FP8 = (8, 9)


OWN_ADAPTERS = True
"""Whether sessions of one model may have adapters of their own."""


def check(device: str, dtype: str = "auto", quantize: str | None = None, cache_dtype: str = "auto") -> None:
    """Check how a model is to be loaded, before anything is downloaded.

    :raises UsageError: if the device, a dtype or the quantization cannot be used here
    """
    if quantize not in (None, "int8", "fp8", "int4"):
        raise UsageError(f"quantize={quantize!r} is not known; use 'int8', 'fp8', 'int4', or leave it out")
    if dtype not in ("auto", "float32", "bfloat16"):
        raise UsageError(f"dtype {dtype!r} is not known; use 'float32', 'bfloat16' or 'auto'")
    if cache_dtype not in ("auto", "int8"):
        raise UsageError(f"cache_dtype {cache_dtype!r} is not known; use 'int8', or 'auto' for that of the weights")
    require("torch", "torch", purpose="the PyTorch backend")
    if device not in ("auto", "cpu"):  # which are everywhere
        _device(device)
    if quantize == "fp8":
        _check_fp8(device)


def placement(device: str, dtype: str) -> Placement:
    """Return where a model with these arguments runs.

    :raises UsageError: if the device cannot be used here
    """
    place = _device(device)
    return Placement(backend="torch", device=str(place), dtype=str(_dtype(dtype, place)).removeprefix("torch."))


def load_codec(config: MimiConfig, weights: Path, *, codebooks: int, device: str, quantize: str | None) -> Codec:
    """Load Mimi alone.

    :raises WeightsError: if the file is damaged or does not fit the configuration
    :raises UsageError: if the device cannot be used here
    """
    check(device, quantize=quantize)
    from duplex.backends.torch.codec import TorchCodec, load_mimi  # noqa: PLC0415 -- torch takes seconds to import

    return TorchCodec(load_mimi(config, weights, codebooks, _device(device), cast("Kind | None", quantize)))


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
    adapters: Mapping[str, Adapter] | None = None,
    guidance: bool = False,
    tts: TtsConfig | None = None,
) -> FrameModel:
    """Load a dialogue model, with an adapter added to its weights, and with a second row a session for ``guidance``.

    Of ``adapters``, by name, each session may choose one.

    :raises WeightsError: if a file is damaged or does not fit the configuration
    :raises UsageError: as :func:`check` does, and if the device has not the memory
    """
    from duplex.backends.torch.codec import load_mimi  # noqa: PLC0415 -- torch takes seconds to import
    from duplex.backends.torch.loading import load_language_model  # noqa: PLC0415
    from duplex.backends.torch.memory import check_memory  # noqa: PLC0415
    from duplex.backends.torch.model import TorchFrameModel  # noqa: PLC0415
    from duplex.backends.torch.products.selector import ProductSelector  # noqa: PLC0415
    from duplex.backends.torch.speech_script import speech_script  # noqa: PLC0415

    check(device, dtype, quantize, cache_dtype)
    chosen = _chosen(device, dtype, quantize, cache_dtype)
    own = dict(adapters or {})
    sizes = [each.info for each in own.values()]
    check_memory(config, mimi_config, sessions=sessions, guidance=guidance, adapters=sizes, **chosen)
    selector = ProductSelector.of(sessions=sessions, deterministic=deterministic)
    language_model = load_language_model(
        config, weights, **chosen, adapter=adapter, adapters=own, guidance=guidance, selector=selector
    )
    mimi = load_mimi(mimi_config, mimi_weights, config.codebooks, chosen["device"], selector=selector)
    if tts is not None:
        language_model.script = speech_script(language_model, tts, mimi_config.frame_rate)
    return TorchFrameModel(
        mimi,
        language_model,
        sessions=sessions,
        deterministic=deterministic,
        fingerprint=fingerprint,
        products=selector.layouts(),
    )


def predict_memory(
    config: LanguageModelConfig,
    mimi_config: MimiConfig,
    headers: tuple[Header, Header],  # noqa: ARG001 -- MLX needs them
    *,
    device: str,
    dtype: str,
    quantize: str | None,
    cache_dtype: str,
    sessions: int,
    guidance: bool = False,
    adapters: Collection[AdapterInfo] = (),
) -> Memory:
    """Return what a model takes, loaded so; ``headers`` are those of its two weights files.

    Of ``adapters`` each session may choose one.

    :raises UsageError: as :func:`check` does
    """
    check(device, dtype, quantize, cache_dtype)
    from duplex.backends.torch.memory import predict  # noqa: PLC0415 -- torch takes seconds to import

    chosen = _chosen(device, dtype, quantize, cache_dtype)
    return predict(config, mimi_config, sessions=sessions, guidance=guidance, adapters=adapters, **chosen)


def available_memory(device: str) -> int | None:
    """Return the bytes that models may take of a device; ``None`` if that is not known.

    :raises UsageError: if the device cannot be used here
    """
    from duplex.backends.torch.memory import available  # noqa: PLC0415 -- torch takes seconds to import

    return available(_device(device))


def _chosen(device: str, dtype: str, quantize: str | None, cache_dtype: str) -> dict[str, Any]:
    """Return how a language model is to be loaded, in the backend's own words."""
    place = _device(device)
    return {
        "dtype": _dtype(dtype, place),
        "device": place,
        "quantize": cast("Kind | None", quantize),
        "int8_cache": cache_dtype == "int8",
    }


def _device(name: str) -> "torch.device":
    import torch  # noqa: PLC0415

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise UsageError(f"there is no device {name!r}; use 'cpu', 'cuda' or 'cuda:0'") from None
    if device.type not in {"cpu", "cuda"}:
        raise UsageError(f"the torch backend runs on 'cpu' and 'cuda', not on {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"{name!r} is not here ({torch.cuda.device_count()} CUDA devices found); use device='cpu'")
    return device


def _check_fp8(name: str) -> None:
    """Check that a device multiplies with 8-bit floating numbers.

    :raises UsageError: if it does not
    """
    import torch  # noqa: PLC0415

    device = _device(name)
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < FIRST_WITH_FP8:
        raise UsageError(f"quantize='fp8' needs a GPU of compute capability 8.9 or more, not '{device}'; use 'int8'")


def _dtype(name: str, device: "torch.device") -> "torch.dtype":
    import torch  # noqa: PLC0415

    if name == "auto":
        name = "bfloat16" if device.type == "cuda" else "float32"
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]
