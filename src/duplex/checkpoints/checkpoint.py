"""From a name to a checkpoint: a built-in model, a local folder, or a hub repository.

``resolve`` locates and downloads the files and checks that they belong together; no tensor is read. ``describe``
returns what a checkpoint is and downloads only small files. Weights are safetensors files only: unlike pickles they
cannot run code.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath

import attrs

from duplex.checkpoints.adapters import Adapter, AdapterFile, AdapterInfo, check_whole, find_adapter
from duplex.checkpoints.checkpoint_info import CheckpointInfo, codebooks_used
from duplex.checkpoints.hub import HubRepository
from duplex.checkpoints.kind_configs import SttConfig, TtsConfig
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.checkpoints.layout import CheckpointLayout, Part, is_codec_alone
from duplex.checkpoints.mimi_config import MimiConfig
from duplex.checkpoints.model_card import ModelCard
from duplex.checkpoints.sources import CheckpointSource, builtin_names, locate, resolve_source
from duplex.checkpoints.stored_weights import fingerprint_chunks, merged, read_header, shards, size_on_disk
from duplex.checkpoints.tokenizer import Tokenizer
from duplex.checkpoints.voices import Voices
from duplex.checkpoints.weight_names import checked_half
from duplex.checkpoints.weights_file import Header, TensorInfo
from duplex.errors import UsageError
from duplex.options import ModelKind, SessionOptions

__all__ = [
    "Checkpoint",
    "CheckpointInfo",
    "Header",
    "TensorInfo",
    "builtin_names",
    "describe",
    "read_header",
    "resolve",
]

SMALL = 1_000_000_000
"""Bytes of weights below which a model is small."""
NOTES_FILE = "notes.txt"
"""An optional line or two for people, beside the configuration."""
_SAMPLING = ("temperature", "text_temperature", "top_k", "text_top_k", "guidance")


@attrs.frozen(kw_only=True)
class Checkpoint:
    """A checkpoint whose files are on this machine. Parts that were not requested are ``None``.

    ``name`` is as given, ``revision`` the hub's commit. In ``defaults`` every option has a value.
    """

    name: str
    revision: str | None
    language_model: LanguageModelConfig | None
    mimi: MimiConfig
    weights: Path | None
    mimi_weights: Path | None
    tokenizer: Path | None
    defaults: SessionOptions
    model_type: ModelKind
    stt: SttConfig | None
    tts: TtsConfig | None
    voices: Voices = attrs.field(eq=False)
    card: ModelCard = attrs.field(eq=False)
    note: str
    adapter: Adapter | None = None
    adapters: Mapping[str, Adapter] = attrs.field(factory=dict[str, Adapter])
    """Those that sessions may choose, by name; the fingerprint does not cover them."""

    @property
    def codebooks(self) -> int:
        """Number of the codec's active codebooks: those that the language model uses, or all without one."""
        return codebooks_used(self.language_model, self.mimi)

    @property
    def small(self) -> bool:
        """Whether several conversations side by side are a matter of course: less than a gigabyte of weights."""
        return self.weights is not None and self.weights_size < SMALL

    @property
    def weights_size(self) -> int:
        """Bytes of the language model's files, 0 without one."""
        return 0 if self.weights is None else size_on_disk(self.weights)

    @cached_property
    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 of the configurations and of samples of the weights: identifies a checkpoint.

        It covers the adapter, if there is one.

        :raises WeightsError: if a weights file can no longer be read
        """
        model = None if self.language_model is None else self.language_model.identity()
        configs = [model, attrs.asdict(self.mimi)]
        total = hashlib.sha256(json.dumps(configs, sort_keys=True).encode())
        for path in (self.weights, self.mimi_weights):
            if path is not None:
                for piece in fingerprint_chunks(path):
                    total.update(piece)
        for piece in () if self.adapter is None else self.adapter.fingerprint_chunks():
            total.update(piece)
        return total.hexdigest()


def resolve(
    name: str,
    *,
    revision: str | None = None,
    adapter: str | None = None,
    adapters: Mapping[str, str] | None = None,
    parts: Collection[Part] = ("model", "codec"),
    progress: bool = True,
) -> Checkpoint:
    """Locate a checkpoint's files by a built-in name, a folder, or ``owner/name`` on the hub; download what is missing.

    ``revision`` is a branch, tag or commit of the repository. ``parts`` selects what is to be loaded: ``"codec"`` alone
    needs Mimi's files only, whatever the language model. ``adapter`` is what :mod:`duplex.checkpoints.adapters` finds
    by name, instead of the checkpoint's own, and ``adapters`` are several of those, for sessions to choose by
    names of their own. ``progress`` shows the hub client's progress bars.

    :raises UsageError: if ``parts`` or ``revision`` is invalid
    :raises CheckpointNotFoundError: if there is no such name, repository, revision or file
    :raises HubError: if the hub is unreachable, refuses access or is too slow
    :raises ConfigError: if a configuration is invalid or unsupported by this version
    :raises WeightsError: if a weights file is damaged, truncated or not safetensors
    """
    if not parts or set(parts) - {"model", "codec"}:
        raise UsageError(f"parts is {parts!r}; give 'model', 'codec' or both")
    _, source = resolve_source(name, revision, progress=progress)
    layout = CheckpointLayout.read(source, codec_only="model" not in parts)
    if "model" in parts:
        check_whole(source, layout.weights)
    mimi = layout.read_mimi_config(source, progress=progress)
    places = layout.locate_files(source, parts, progress=progress)
    found = _find_adapter(adapter, layout, source, progress=progress) if "model" in parts else None
    named = {own: find_adapter(each, progress=progress) for own, each in (adapters or {}).items()}
    if found is not None and named:
        raise UsageError(f"{name} has an adapter of its own, which is for all sessions; leave adapters out")
    adapter_path = None if found is None else found.place.fetch(found.file)
    paths = {key: _fetch(place, file) for key, (place, file) in places.items()}
    headers = {
        key: checked_half(
            read_header(paths[key]), str(paths[key]), layout.language_model, mimi, codec=key != "moshi_name"
        )
        for key in ("moshi_name", "mimi_name")
        if key in paths
    }
    adapted = None
    if found is not None and adapter_path is not None and layout.language_model is not None:
        where = str(paths["moshi_name"])
        info = found.check(read_header(adapter_path), layout.language_model, headers["moshi_name"], where)
        adapted = Adapter(info=info, path=adapter_path)
        found.place.record_revision()
    own: dict[str, Adapter] = {}
    for called, each in named.items():
        if layout.language_model is None:
            break
        path = each.place.fetch(each.file)
        info = each.check(read_header(path), layout.language_model, headers["moshi_name"], str(paths["moshi_name"]))
        own[called] = Adapter(info=info, path=path)
        each.place.record_revision()
    for place in (source, *(place for place, _ in places.values())):
        place.record_revision()
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
        stt=layout.stt,
        tts=layout.tts,
        voices=Voices(source),
        card=ModelCard(source),
        note=_read_note(source),
        adapter=adapted,
        adapters=own,
    )


def describe(
    name: str,
    revision: str | None = None,
    *,
    adapter: str | None = None,
    adapters: Mapping[str, str] | None = None,
) -> CheckpointInfo:
    """Return what a checkpoint is, from its configuration and its weights' headers, without downloading the weights.

    A folder or repository that contains only Mimi is described as a codec. ``adapter`` and ``adapters`` are as with
    :func:`resolve`.

    :raises CheckpointError: as :func:`resolve` does
    """
    kind, source = resolve_source(name, revision, progress=False)
    mimi_alone = is_codec_alone(source)
    layout = CheckpointLayout.read(source, codec_only=mimi_alone)
    check_whole(source, layout.weights)
    mimi = layout.read_mimi_config(source, progress=False)
    places = layout.locate_files(source, ("codec",) if mimi_alone else ("model", "codec"), progress=False)
    tokenizer = None
    if "tokenizer_name" in places:
        place, file = places["tokenizer_name"]
        tokenizer = Tokenizer.load(place.fetch(file))
    headers = {
        key: checked_half(
            _read_header(place, file), place.origin, layout.language_model, mimi, codec=key != "moshi_name"
        )
        for key, (place, file) in places.items()
        if key != "tokenizer_name"
    }
    weights = headers.get("moshi_name")
    found = _find_adapter(adapter, layout, source, progress=False)
    adapted, own = None, list[AdapterInfo]()
    if layout.language_model is not None and weights is not None:
        beside = layout.language_model, weights, places["moshi_name"][0].origin
        if found is not None:
            adapted = found.check(_read_header(found.place, found.file), *beside)
        named = [find_adapter(each, progress=False) for each in (adapters or {}).values()]
        own = [each.check(_read_header(each.place, each.file), *beside) for each in named]
    return CheckpointInfo(
        name=str(name),
        kind=kind,
        revision=source.commit if isinstance(source, HubRepository) else None,
        model_type="mimi" if mimi_alone else layout.model_type,
        language_model=layout.language_model,
        mimi=mimi,
        weights=weights,
        mimi_weights=headers["mimi_name"],
        tokenizer_pieces=None if tokenizer is None else tokenizer.vocab_size,
        defaults=None if mimi_alone else layout.defaults,
        voices=Voices(source).listed,
        note=_read_note(source),
        adapter=adapted,
        adapters=tuple(own),
    )


def _find_adapter(
    name: str | None, layout: CheckpointLayout, source: CheckpointSource, *, progress: bool
) -> AdapterFile | None:
    """Return the adapter of this name, without one the checkpoint's own, if it has one."""
    if name is not None:
        return find_adapter(name, progress=progress)
    if layout.adapter is None:
        return None
    place, file = locate(layout.adapter, source, key="lora_name", progress=progress)
    return AdapterFile(name=layout.adapter, place=place, file=file, config=layout.adapter_config, base={}).found()


def _fetch(place: CheckpointSource, file: str) -> Path:
    """Return the local path of a file, once it and all files that it stands for are on this machine."""
    path = place.fetch(file)
    for shard in shards(path) if file.endswith(".json") else ():
        place.fetch(str(PurePosixPath(file).with_name(shard.name)))
    return path


def _read_header(place: CheckpointSource, file: str) -> Header:
    """Read a weights file's header, over the network if the file is not in the cache."""
    if not file.endswith(".json"):
        return _read_one_header(place, file)
    names = [str(PurePosixPath(file).with_name(shard.name)) for shard in shards(place.fetch(file))]
    return merged([_read_one_header(place, name) for name in names])


def _read_one_header(place: CheckpointSource, file: str) -> Header:
    if isinstance(place, HubRepository):
        cached = place.cached(file)
        return place.read_header(file) if cached is None else read_header(cached)
    return read_header(place.fetch(file))


def _read_note(source: CheckpointSource) -> str:
    if not source.has(NOTES_FILE):
        return ""
    return source.fetch(NOTES_FILE).read_text(encoding="utf-8", errors="replace").strip()
