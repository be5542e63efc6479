"""From a name to a checkpoint's files: a built-in model, a folder, or a repository of the hub.

``resolve`` finds (and downloads) what is to be loaded and checks that it belongs together; no tensor is read.
``describe`` tells what a checkpoint is, and downloads nothing big. Weights are safetensors files only: unlike pickles
they cannot run code.
"""

import hashlib
import json
from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs

from duplex.checkpoints.config import LanguageModelConfig, MimiConfig
from duplex.checkpoints.hub import HubRepository
from duplex.checkpoints.layout import MIMI_WEIGHTS, WEIGHTS, Layout, Part
from duplex.checkpoints.sources import CONFIG, Kind, Source, builtin_names, open_source
from duplex.checkpoints.tokenizer import Tokenizer
from duplex.checkpoints.weights_file import Header, TensorInfo, digest, read_header
from duplex.codec import CodecSpec
from duplex.errors import UsageError
from duplex.options import SessionOptions

__all__ = ["Checkpoint", "Description", "Header", "TensorInfo", "builtin_names", "describe", "read_header", "resolve"]

NOTE = "notes.txt"
"""A line or two beside the configuration, for people; optional."""


@attrs.frozen(kw_only=True)
class Checkpoint:
    """A checkpoint whose files are on this machine. What was not asked for is ``None``.

    ``name`` is as asked, ``revision`` the hub's commit. ``defaults`` has no ``None`` in it.
    """

    name: str
    revision: str | None
    language_model: LanguageModelConfig | None
    mimi: MimiConfig
    weights: Path | None
    mimi_weights: Path | None
    tokenizer: Path | None
    defaults: SessionOptions
    model_type: str
    note: str

    @property
    def codebooks(self) -> int:
        """The codec's active codebooks: those that the language model uses, or all without one."""
        return _codebooks(self.language_model, self.mimi)

    @cached_property
    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 that tells checkpoints apart, also such of one shape. Reads samples of the weights.

        :raises WeightsError: if a weights file cannot be read any more
        """
        configs = [None if part is None else attrs.asdict(part) for part in (self.language_model, self.mimi)]
        total = hashlib.sha256(json.dumps(configs, sort_keys=True).encode())
        for path in (self.weights, self.mimi_weights):
            if path is not None:
                for piece in digest(path):
                    total.update(piece)
        return total.hexdigest()


@attrs.frozen(kw_only=True)
class Description:
    """What a checkpoint is, for ``duplex info``: ``kind`` says where it comes from.

    ``weights`` and ``mimi_weights`` are headers: numbers and bytes by type. ``language_model`` is ``None`` for a codec.
    """

    name: str
    kind: Kind
    revision: str | None
    model_type: str
    language_model: LanguageModelConfig | None
    mimi: MimiConfig
    weights: Header | None
    mimi_weights: Header
    tokenizer_pieces: int | None
    defaults: SessionOptions | None
    note: str

    def as_json(self) -> dict[str, Any]:
        """Return the description as plain values, to print or to write as JSON."""
        quantizer = self.mimi.quantizer
        used = CodecSpec(
            sample_rate=self.mimi.sample_rate,
            frame_size=self.mimi.frame_size,
            codebooks=_codebooks(self.language_model, self.mimi),
            vocabulary=quantizer.bins,
        )
        codec = {
            "sample_rate": self.mimi.sample_rate,
            "frame_rate": self.mimi.frame_rate,
            "frame_size": self.mimi.frame_size,
            "codebooks": quantizer.n_q,
            "codebooks_used": used.codebooks,
            "codebook_size": quantizer.bins,
            "bits_per_second": used.bitrate,
            "dimension": self.mimi.seanet.dimension,
            "transformer_layers": self.mimi.transformer.num_layers,
            "weights": _numbers(self.mimi_weights),
        }
        whole = {"name": self.name, "kind": self.kind, "revision": self.revision, "model_type": self.model_type}
        return {**whole, "model": self._model(), "codec": codec, "note": self.note}

    def _model(self) -> dict[str, Any] | None:
        config = self.language_model
        if config is None or self.weights is None or self.defaults is None:
            return None
        sampling = attrs.asdict(self.defaults, filter=attrs.filters.exclude("seed", "greedy"))
        return {
            "layers": config.num_layers,
            "dimension": config.dim,
            "heads": config.num_heads,
            "depth_layers": config.depformer_num_layers,
            "depth_dimension": config.depformer_dim,
            "depth_heads": config.depformer_num_heads,
            "agent_streams": config.agent_streams,
            "user_streams": config.user_streams,
            "codebooks": config.codebooks,
            "delays": list(config.delays),
            "context": config.context,
            "context_seconds": config.context / self.mimi.frame_rate,
            "text_vocabulary": config.text_card,
            "audio_vocabulary": config.card,
            "tokenizer_pieces": self.tokenizer_pieces,
            "sampling": sampling,
            "weights": _numbers(self.weights),
        }


def resolve(
    name: str,
    *,
    revision: str | None = None,
    parts: Collection[Part] = ("model", "codec"),
    progress: bool = True,
) -> Checkpoint:
    """Find a checkpoint's files by a built-in name, a folder, or ``owner/name`` on the hub; download what is missing.

    ``revision`` is a branch, tag or commit of the repository. ``parts`` says what is to be loaded: with ``"codec"``
    alone, Mimi's files are enough, of whatever relative. ``progress`` shows the hub client's progress bars.

    :raises UsageError: if ``parts`` or ``revision`` make no sense
    :raises CheckpointNotFoundError: if there is no such name, repository, revision or file
    :raises HubError: if the hub is out of reach, refuses access or is too slow
    :raises ConfigError: if a configuration is not one that this version runs
    :raises WeightsError: if a weights file is damaged, cut short or not safetensors
    """
    if not parts or set(parts) - {"model", "codec"}:
        raise UsageError(f"parts is {parts!r}; give 'model', 'codec' or both")
    _, source = open_source(name, revision, progress=progress)
    layout = Layout.read(source, codec_only="model" not in parts)
    mimi = layout.read_mimi(source, progress=progress)
    places = layout.places(source, parts, progress=progress)
    paths = {key: place.fetch(file) for key, (place, file) in places.items()}
    for key in ("moshi_name", "mimi_name"):
        if key in paths:
            read_header(paths[key])
    for place in (source, *(place for place, _ in places.values())):
        place.remember()
    return Checkpoint(
        name=str(name),
        revision=source.commit if isinstance(source, HubRepository) else None,
        language_model=layout.language_model,
        mimi=mimi,
        weights=paths.get("moshi_name"),
        mimi_weights=paths.get("mimi_name"),
        tokenizer=paths.get("tokenizer_name"),
        defaults=layout.defaults,
        model_type=layout.model_type,
        note=_note(source),
    )


def describe(name: str, revision: str | None = None) -> Description:
    """Tell what a checkpoint is, from its configuration and its weights' headers; nothing big is downloaded.

    A folder or repository with nothing but Mimi in it is described as a codec.

    :raises CheckpointError: as :func:`resolve` does
    """
    kind, source = open_source(name, revision, progress=False)
    mimi_alone = not source.has(CONFIG) and not source.has(WEIGHTS) and source.has(MIMI_WEIGHTS)
    layout = Layout.read(source, codec_only=mimi_alone)
    mimi = layout.read_mimi(source, progress=False)
    places = layout.places(source, ("codec",) if mimi_alone else ("model", "codec"), progress=False)
    tokenizer = None
    if "tokenizer_name" in places:
        place, file = places["tokenizer_name"]
        tokenizer = Tokenizer.load(place.fetch(file))
    return Description(
        name=str(name),
        kind=kind,
        revision=source.commit if isinstance(source, HubRepository) else None,
        model_type="mimi" if mimi_alone else layout.model_type,
        language_model=layout.language_model,
        mimi=mimi,
        weights=None if mimi_alone else _header(*places["moshi_name"]),
        mimi_weights=_header(*places["mimi_name"]),
        tokenizer_pieces=None if tokenizer is None else tokenizer.vocabulary,
        defaults=None if mimi_alone else layout.defaults,
        note=_note(source),
    )


def _codebooks(model: LanguageModelConfig | None, mimi: MimiConfig) -> int:
    return mimi.quantizer.n_q if model is None else model.codebooks


def _header(place: Source, file: str) -> Header:
    """Read a weights file's header, from afar if it is not on this machine."""
    if isinstance(place, HubRepository):
        cached = place.cached(file)
        return place.header(file) if cached is None else read_header(cached)
    return read_header(place.fetch(file))


def _note(source: Source) -> str:
    if not source.has(NOTE):
        return ""
    return source.fetch(NOTE).read_text(encoding="utf-8", errors="replace").strip()


def _numbers(header: Header) -> dict[str, Any]:
    return {
        "tensors": len(header),
        "parameters": header.elements,
        "bytes": header.bytes,
        "total_parameters": sum(header.elements.values()),
        "total_bytes": sum(header.bytes.values()),
    }
