"""A checkpoint written anew: in torch's layout or MLX's, in bfloat16 or quantized, with all of its other files."""

import contextlib
import json
import shutil
from collections.abc import Generator, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import attrs

from duplex.atomic import abandon, atomic_path, atomic_write_text, output_error
from duplex.backends import mlx
from duplex.checkpoints import checkpoint
from duplex.checkpoints.adapters import Adapter
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.checkpoints.layout import MIMI_CONFIG, read_json
from duplex.checkpoints.model_card import CARD
from duplex.checkpoints.sources import CONFIG, resolve_source
from duplex.checkpoints.stored_weights import read_header
from duplex.checkpoints.transformers_names import is_of_transformers
from duplex.checkpoints.transformers_section import AS_PUBLISHED
from duplex.checkpoints.weight_names import WeightsLayout
from duplex.errors import ConfigError, OutputError, UsageError

__all__ = ["convert"]

_WEIGHTS = {None: "model.safetensors", "int8": "model.q8.safetensors", "int4": "model.q4.safetensors"}
"""The original's loaders tell by the name how a file for MLX is quantized."""
_PUBLISHED = """dim text_card existing_text_padding_id n_q dep_q card num_heads num_layers hidden_scale causal
layer_scale context max_period gating norm positional_embedding depformer_dim depformer_dim_feedforward
depformer_num_heads depformer_num_layers depformer_layer_scale depformer_multi_linear depformer_gating depformer_pos_emb
depformer_weights_per_step delays""".split()  # noqa: SIM905 -- a list of words, written as words
"""The keys that a published configuration has."""


def convert(
    name: str,
    folder: Path,
    *,
    layout: WeightsLayout = "mlx",
    quantize: str | None = None,
    revision: str | None = None,
    adapter: str | None = None,
) -> Path:
    """Write a checkpoint to ``folder``, which must be empty or not there; return its weights file.

    It is read by :func:`duplex.load` and, in MLX's layout, by the original's loaders. ``quantize`` is ``"int8"``,
    ``"int4"`` (for MLX), or ``None`` for bfloat16. An ``adapter``, or the checkpoint's own, is added to the weights
    before: what is written has none any more. The weights are computed with MLX, also those for torch.

    :raises CheckpointError: if the checkpoint cannot be found or read
    :raises UsageError: if it cannot be written as asked
    :raises MissingDependencyError: if MLX is not installed
    :raises OutputError: if the folder cannot be written
    """
    mlx.check("cpu", quantize=quantize)
    if layout == "torch" and quantize == "int4":
        raise UsageError("torch's layout has no int4; use quantize='int8', or layout='mlx'")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} is there already; name another folder")
    found = checkpoint.resolve(name, revision=revision, adapter=adapter)
    mapping = _configuration(name, revision, found)
    # A checkpoint that was resolved with all its parts has them all.
    config = cast("LanguageModelConfig", found.language_model)
    weights, mimi, pieces = (cast("Path", path) for path in (found.weights, found.mimi_weights, found.tokenizer))
    if is_of_transformers(read_header(weights)):
        raise UsageError(
            f"'{name}' is in the layout of Hugging Face transformers, which is not converted; {AS_PUBLISHED}"
        )
    target = folder / (_WEIGHTS[quantize] if layout == "mlx" else _WEIGHTS["int8" if quantize else None])
    mapping |= {"moshi_name": target.name, "mimi_name": mimi.name, "tokenizer_name": pieces.name}
    for key in ("quantize", "lora", "lora_name", "lora_rank", "lora_scaling"):
        mapping.pop(key, None)
    if layout == "torch" and quantize:
        mapping["quantize"] = True
    with _whole_folder(folder, [target.name, mimi.name, pieces.name, CARD, MIMI_CONFIG, CONFIG]):
        _write_weights(config, weights, target, layout, quantize, found.adapter)
        for path in (mimi, pieces):
            shutil.copyfile(path, folder / path.name)
        _copy_card(name, revision, folder)
        if mapping.get("mimi_config_name"):
            mapping["mimi_config_name"] = MIMI_CONFIG
            atomic_write_text(folder / MIMI_CONFIG, json.dumps(_plain(found.mimi), indent=1) + "\n")
        # Last: a folder with a configuration is a whole checkpoint.
        atomic_write_text(folder / CONFIG, json.dumps(mapping, indent=1) + "\n")
    return target


@contextlib.contextmanager
def _whole_folder(folder: Path, names: Iterable[str]) -> Generator[None, None, None]:
    """Make a folder for files of these names; what leaves the block removes them, so that it can be done again.

    :raises OutputError: for an :class:`OSError` of the block, or if the folder cannot be made
    """
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException as error:
        for name in names:
            abandon(folder / name)
        if made:
            with contextlib.suppress(OSError):
                folder.rmdir()
        if isinstance(error, OSError):
            raise output_error(folder, error) from None
        raise


def _write_weights(
    config: LanguageModelConfig,
    weights: Path,
    target: Path,
    layout: WeightsLayout,
    quantize: str | None,
    adapter: Adapter | None,
) -> None:
    with atomic_path(target) as part:
        written = part.with_name(f"{part.name}.safetensors")  # MLX insists on the ending
        try:
            mlx.convert_weights(config, weights, written, layout=layout, quantize=quantize, adapter=adapter)
            written.replace(part)
        except BaseException:
            abandon(written)
            raise


def _copy_card(name: str, revision: str | None, folder: Path) -> None:
    """Keep the model card, where there is one: it has the licence, and what one may say to the model."""
    _, source = resolve_source(name, revision, progress=False)
    if source.has(CARD):
        shutil.copyfile(source.fetch(CARD), folder / CARD)


def _configuration(name: str, revision: str | None, found: checkpoint.Checkpoint) -> dict[str, Any]:
    """Return the checkpoint's own ``config.json``, or what it would be for one that was published without."""
    _, source = resolve_source(name, revision, progress=False)
    if source.has(CONFIG):
        return read_json(source.fetch(CONFIG), f"{source.origin}: {CONFIG}")
    if found.language_model is None:
        raise ConfigError(f"{source.origin}: there is no language model in it to convert")
    whole = _plain(found.language_model)
    own = {"mimi_config_name": MIMI_CONFIG} if source.has(MIMI_CONFIG) else {}
    return {key: whole[key] for key in _PUBLISHED} | {"model_type": found.model_type} | own


def _plain(section: Any) -> dict[str, Any]:
    def value(_: object, __: object, value: Any) -> Any:
        return list(cast("tuple[Any, ...]", value)) if isinstance(value, tuple) else value

    found: Mapping[str, Any] = attrs.asdict(section, value_serializer=value)
    return dict(found)
