"""The layout of a checkpoint: which files belong to it, and what ``config.json`` says besides the language model.

A checkpoint without a ``config.json`` is Moshi 7B under the first published names.
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, cast

import attrs

from duplex.checkpoints.kind_configs import AdapterConfig, SttConfig, TtsConfig
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.checkpoints.mimi_config import MimiConfig
from duplex.checkpoints.sampling_defaults import DEFAULT_OPTIONS, SPEECH_OPTIONS, default_options
from duplex.checkpoints.sources import CONFIG, CheckpointSource, locate
from duplex.checkpoints.stored_weights import INDEX
from duplex.checkpoints.transformers_config import codec_config, is_of_transformers_config, model_config
from duplex.checkpoints.validation import StrictConfig
from duplex.errors import CheckpointError, CheckpointNotFoundError, ConfigError
from duplex.options import ModelKind, SessionOptions
from duplex.parsing import parse_json, shown

__all__ = ["CheckpointLayout", "Part", "file_name", "is_codec_alone", "read_json"]

Part = Literal["model", "codec"]
WEIGHTS = "model.safetensors"
OTHER_WEIGHTS = ("model.q8.safetensors", "model.q4.safetensors", "model.q8.gguf", "model.q4.gguf")
"""What the weights are called where there is no configuration to name them."""
MIMI_WEIGHTS = "tokenizer-e351c8d8-checkpoint125.safetensors"
MIMI_CONFIG = "mimi_config.json"
TOKENIZER = "tokenizer_spm_32k_3.model"
TOKENIZERS = (TOKENIZER, "tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
"""What a sentencepiece model is called beside what transformers writes."""
OTHER_TOKENIZER = "tokenizer.json"
MAX_NAME_CHARACTERS = 1000
"""Characters of a file's name, or of what hf:// or file:// refers to."""
MAX_CONFIG_BYTES = 4_000_000
"""Bytes."""
_Part = TypeVar("_Part", bound=StrictConfig)


@attrs.frozen(kw_only=True)
class CheckpointLayout:
    """The contents of ``config.json``: the language model's configuration, file names, and sampling defaults.

    ``language_model`` is ``None`` if only the codec was requested and this version does not support the model.
    """

    NON_MODEL_KEYS: ClassVar[frozenset[str]] = frozenset(
        {
            "moshi_name",
            "mimi_name",
            "mimi_config_name",
            "tokenizer_name",
            "lora",
            "lora_name",
            "lora_rank",
            "lora_scaling",
            "version",
            "lm_gen_config",
            "tts_config",
            "stt_config",
            "model_id",
        }
    )

    language_model: LanguageModelConfig | None
    stt: SttConfig | None = None
    tts: TtsConfig | None = None
    weights: str = WEIGHTS
    mimi_weights: str = MIMI_WEIGHTS
    mimi_config: str | None = None
    mimi: MimiConfig | None = None
    """The codec's configuration, where it has no file of its own."""
    tokenizer: str = TOKENIZER
    defaults: SessionOptions = DEFAULT_OPTIONS
    adapter: str | None = None
    adapter_config: AdapterConfig = attrs.Factory(AdapterConfig)

    @property
    def model_type(self) -> ModelKind:
        """The kind of the language model."""
        return "moshi" if self.language_model is None else self.language_model.model_type

    @classmethod
    def read(cls, source: CheckpointSource, *, codec_only: bool) -> "CheckpointLayout":
        """Read a checkpoint's ``config.json``; without one, Moshi 7B's defaults apply.

        :raises ConfigError: if it is invalid, or of a kind that this version does not support
        :raises CheckpointError: if it cannot be read or downloaded
        """
        if not source.has(CONFIG):
            return cls(
                language_model=None if codec_only else LanguageModelConfig(),
                weights=next((name for name in (WEIGHTS, *OTHER_WEIGHTS) if source.has(name)), WEIGHTS),
                mimi_config=MIMI_CONFIG if source.has(MIMI_CONFIG) else None,
            )
        path = source.fetch(CONFIG)
        where = f"{source.origin}: {CONFIG}"
        mapping = read_json(path, where)
        if is_of_transformers_config(mapping):
            return cls._of_transformers(mapping, source, where, codec_only=codec_only)
        return cls(
            language_model=_codec_only(_language_model, mapping, where)
            if codec_only
            else _language_model(mapping, where),
            stt=_part(mapping, "stt_config", SttConfig, where),
            tts=_part(mapping, "tts_config", TtsConfig, where),
            weights=file_name(mapping, "moshi_name", where, *(() if codec_only else (".safetensors", ".gguf")))
            or WEIGHTS,
            mimi_weights=file_name(mapping, "mimi_name", where, ".safetensors") or MIMI_WEIGHTS,
            mimi_config=file_name(mapping, "mimi_config_name", where, ".json"),
            tokenizer=file_name(mapping, "tokenizer_name", where) or TOKENIZER,
            defaults=default_options(
                mapping.get("lm_gen_config"), where, SPEECH_OPTIONS if mapping.get("tts_config") else DEFAULT_OPTIONS
            ),
            adapter=file_name(mapping, "lora_name", where, *(() if codec_only else (".safetensors",))),
            adapter_config=AdapterConfig() if codec_only else AdapterConfig.of(mapping, where=where),
        )

    @classmethod
    def _of_transformers(
        cls, mapping: Mapping[str, Any], source: CheckpointSource, where: str, *, codec_only: bool
    ) -> "CheckpointLayout":
        """Return the layout of what transformers wrote: a model and its codec in the same files, or a codec alone."""
        model = _codec_only(model_config, mapping, where) if codec_only else model_config(mapping, where=where)
        if model is None and not codec_only:
            raise ConfigError(
                f"{where}: this is a codec alone (Mimi), to encode and decode with; a conversation needs a model, such "
                "as kyutai/moshika-pytorch-bf16 (`duplex models` lists more)"
            )
        weights = INDEX if source.has(INDEX) and not source.has(WEIGHTS) else WEIGHTS
        return cls(
            language_model=model,
            weights=weights,
            mimi_weights=weights,
            mimi=codec_config(mapping, where=where),
            tokenizer=next((name for name in TOKENIZERS if source.has(name)), TOKENIZER),
        )

    def read_mimi_config(self, source: CheckpointSource, *, progress: bool) -> MimiConfig:
        """Read the codec's configuration; without a file of its own, the published Mimi's applies.

        :raises CheckpointError: if it is invalid, or does not fit the language model
        """
        config = self.mimi or MimiConfig()
        if self.mimi_config is not None:
            place, file = locate(self.mimi_config, source, key="mimi_config_name", progress=progress)
            where = f"{place.origin}: {file}"
            mapping = read_json(place.fetch(file), where)
            read = codec_config if is_of_transformers_config(mapping) else MimiConfig.from_dict
            config = read(mapping, where=where)
            if place is not source:
                place.record_revision()
        model, quantizer = self.language_model, config.quantizer
        if model is not None and model.codebooks > quantizer.n_q:
            raise ConfigError(
                f"{source.origin}: the model uses {model.codebooks} codebooks, but the codec's 'quantizer.n_q' is "
                f"{quantizer.n_q}; they do not belong together, check 'mimi_config_name'"
            )
        if model is not None and model.card != quantizer.bins:
            raise ConfigError(
                f"{source.origin}: the model's 'card' is {model.card}, but the codec's 'quantizer.bins' is "
                f"{quantizer.bins}; they do not belong together, check 'mimi_config_name'"
            )
        return config

    def locate_files(
        self, source: CheckpointSource, parts: Collection[Part], *, progress: bool
    ) -> dict[str, tuple[CheckpointSource, str]]:
        """Return the source and name of each file of ``parts``, by its key in ``config.json``, small files first.

        :raises CheckpointNotFoundError: naming the file that is missing
        :raises ConfigError: if a name points outside the checkpoint
        """
        names: dict[str, str] = {}
        if "model" in parts:
            names |= {"tokenizer_name": self.tokenizer, "moshi_name": self.weights}
        if "codec" in parts:
            names["mimi_name"] = self.mimi_weights
        configured = source.has(CONFIG)
        places: dict[str, tuple[CheckpointSource, str]] = {}
        # The weights are looked for first: a folder without them is hardly a checkpoint at all.
        for key in sorted(names):
            place, file = locate(names[key], source, key=key, progress=progress)
            if not place.has(file):
                unread = key == "tokenizer_name" and place.has(OTHER_TOKENIZER)
                missing = _unread_tokenizer(file) if unread else _missing_file(key, file, configured=configured)
                raise CheckpointNotFoundError(f"{place.origin}: {missing}")
            places[key] = place, file
        return {key: places[key] for key in ("tokenizer_name", "mimi_name", "moshi_name") if key in places}


def is_codec_alone(source: CheckpointSource) -> bool:
    """Return whether a checkpoint holds Mimi, and no language model.

    :raises CheckpointError: if its configuration cannot be read or downloaded
    """
    if not source.has(CONFIG):
        return not source.has(WEIGHTS) and source.has(MIMI_WEIGHTS)
    mapping = read_json(source.fetch(CONFIG), f"{source.origin}: {CONFIG}")
    return is_of_transformers_config(mapping) and mapping.get("model_type") == "mimi"


def _missing_file(key: str, file: str, *, configured: bool) -> str:
    """Return a message that says which file is missing, what it is, and what to do."""
    what = {"tokenizer_name": "the tokenizer", "mimi_name": "Mimi's weights", "moshi_name": "the model's weights"}[key]
    if configured:
        return f"{what} '{file}' is missing; download or copy it there, or correct '{key}' in config.json"
    return f"{what} '{file}' is missing, and so is config.json, which may give another name; copy the whole checkpoint"


def _unread_tokenizer(file: str) -> str:
    return (
        f"its tokenizer is there as {OTHER_TOKENIZER} alone, which is not read here; copy the sentencepiece model that "
        f"it was made of there as '{file}', which the published checkpoint of the same model has"
    )


def read_json(path: Path, where: str) -> dict[str, Any]:
    """Read a configuration file; ``where`` names it in messages.

    :raises ConfigError: if it is not a JSON object
    :raises CheckpointError: if it cannot be read
    """
    try:
        value: Any = parse_json(_read_bytes(path, where))
    except OSError as error:
        raise CheckpointError(f"{where}: cannot be read ({error.strerror}); check its permissions") from error
    except ValueError as error:
        raise ConfigError(f"{where}: not valid JSON ({error}); download or copy it again") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: a JSON object is wanted; this is no configuration of a checkpoint")
    return cast("dict[str, Any]", value)


def _read_bytes(path: Path, where: str) -> bytes:
    with path.open("rb") as file:
        text = file.read(MAX_CONFIG_BYTES + 1)
    if len(text) > MAX_CONFIG_BYTES:
        raise ConfigError(f"{where}: longer than {MAX_CONFIG_BYTES} bytes; this is no configuration of a checkpoint")
    return text


def _language_model(mapping: Mapping[str, Any], where: str) -> LanguageModelConfig:
    """Validate the language model's keys."""
    own = {key: value for key, value in mapping.items() if key not in CheckpointLayout.NON_MODEL_KEYS}
    config = LanguageModelConfig.from_dict(own, where=where)
    for key, kind in (("stt_config", "stt"), ("tts_config", "tts")):
        if (mapping.get(key) is None) == (config.model_type == kind):
            raise ConfigError(f"{where}: '{key}' belongs to 'model_type' {kind}, and only to it")
    return config


def _part(mapping: Mapping[str, Any], key: str, kind: type[_Part], where: str) -> _Part | None:
    """Validate a part that only one kind of model has."""
    value: Any = mapping.get(key)
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: '{key}' is {shown(value)}, but an object is wanted")
    return kind.from_dict(cast("dict[str, Any]", value), where=f"{where}: {key}")


def _codec_only(
    read: Callable[..., LanguageModelConfig | None], mapping: Mapping[str, Any], where: str
) -> LanguageModelConfig | None:
    """Validate the language model's keys, or return ``None``: the codec of an unsupported model can be used alone."""
    try:
        return read(mapping, where=where)
    except ConfigError:
        return None


def file_name(mapping: Mapping[str, Any], key: str, where: str, *suffixes: str) -> str | None:
    """Return a file name from the configuration, or ``None`` if it is absent.

    :raises ConfigError: if it is no name, or has none of these endings
    """
    name = mapping.get(key)
    if name is None:
        return None
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= MAX_NAME_CHARACTERS:
        raise ConfigError(f"{where}: '{key}' is {shown(name)}, but a file name is wanted")
    if suffixes and not name.endswith(suffixes):
        kinds = " and ".join(suffixes)
        raise ConfigError(f"{where}: '{key}' is '{name}'; only {kinds} files are read, so name that file instead")
    return name
