"""Adapters: what a fine-tune saves instead of a whole model, found by name and checked against the model.

A name is a safetensors file, a folder with ``lora.safetensors`` and ``config.json``, or a repository of the hub
(``owner/name``, ``owner/name@revision``, ``hf://owner/name/file``). A checkpoint names its own with ``lora_name``.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from duplex.checkpoints.adapter_changes import Change, changes_of, shapes_of
from duplex.checkpoints.hub import REPOSITORY, HubRepository
from duplex.checkpoints.kind_configs import AdapterConfig
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.checkpoints.layout import file_name, read_json
from duplex.checkpoints.sources import CONFIG, CheckpointSource, LocalFolder, expand_user, is_path, locate
from duplex.checkpoints.weights_file import Header, fingerprint_chunks
from duplex.errors import CheckpointNotFoundError, ConfigError

__all__ = ["Adapter", "AdapterFile", "AdapterInfo", "check_whole", "find_adapter"]

FILES = ("lora.safetensors", "consolidated.safetensors")
"""What moshi-finetune saves: adapters, or all weights of a full fine-tune, or adapters that it has merged."""
OF_PEFT = "adapter_config.json"
ENDING = ".safetensors"
SHAPE_KEYS = (
    "dim",
    "num_heads",
    "num_layers",
    "card",
    "text_card",
    "n_q",
    "dep_q",
    "depformer_dim",
    "depformer_num_heads",
    "depformer_num_layers",
)
"""Keys of a model's configuration in which an adapter's base must agree; not all of them show in tensors' shapes."""


@attrs.frozen(kw_only=True)
class AdapterInfo:
    """What an adapter is: its changes by the canonical names of the model's tensors, and the header of its file."""

    name: str
    revision: str | None
    scaling: float
    changes: Mapping[str, Change]
    header: Header

    @property
    def ranks(self) -> tuple[int, ...]:
        """The ranks that occur; none if it only replaces tensors."""
        return tuple(sorted({product.rank for change in self.changes.values() for product in change.products}))

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values, to print or to write as JSON."""
        return {
            "name": self.name,
            "revision": self.revision,
            "ranks": list(self.ranks),
            "scaling": self.scaling,
            "adapted": sum(bool(change.products) for change in self.changes.values()),
            "replaced": sum(bool(change.parts) for change in self.changes.values()),
        }


@attrs.frozen(kw_only=True)
class Adapter:
    """An adapter whose file is on this machine, checked against the model that it is for."""

    info: AdapterInfo
    path: Path

    @property
    def pinned(self) -> str:
        """The name with the commit in it, if it is one on the hub."""
        name, revision = self.info.name, self.info.revision
        return name if revision is None or "@" in name else f"{name}@{revision}"

    def fingerprint_chunks(self) -> Iterator[bytes]:
        """Yield the bytes that the adapter is fingerprinted by.

        :raises WeightsError: if the file can no longer be read
        """
        yield f"adapter {float(self.info.scaling)!r}".encode()
        yield from fingerprint_chunks(self.path)


@attrs.frozen(kw_only=True)
class AdapterFile:
    """Where an adapter is, and what its configuration says: of it (``config``) and of its model (``base``)."""

    name: str
    place: CheckpointSource
    file: str
    config: AdapterConfig
    base: Mapping[str, Any]

    @property
    def where(self) -> str:
        """The file, for messages."""
        return f"{self.place.origin}: {self.file}"

    def found(self) -> "AdapterFile":
        """Return it, once it is sure to be there.

        :raises CheckpointNotFoundError: if it is not
        """
        if not self.place.has(self.file):
            raise CheckpointNotFoundError(
                f"{self.place.origin}: the adapter '{self.file}' is missing; download or copy it there, or correct "
                "'lora_name' in config.json"
            )
        return self

    def check(self, header: Header, model: LanguageModelConfig, weights: Header, where: str) -> AdapterInfo:
        """Check the adapter's file against a model and the header of its weights, which ``where`` names in messages.

        :raises ConfigError: if the adapter's configuration is of another model
        :raises WeightsError: if its tensors are, or one of them lacks its other half; if the weights are quantized
        """
        for key in SHAPE_KEYS:
            own, wanted = self.base.get(key, getattr(model, key)), getattr(model, key)
            if own != wanted:
                raise ConfigError(
                    f"{self.where}: its configuration has '{key}' {own!r}, and the model's is {wanted}; give the model "
                    "that the adapter was trained on"
                )
        shapes = shapes_of(weights, model, where)
        return AdapterInfo(
            name=self.name,
            revision=self.place.commit if isinstance(self.place, HubRepository) else None,
            scaling=self.config.lora_scaling,
            changes=changes_of(header, shapes, rank=self.config.lora_rank, where=self.where),
            header=header,
        )


def find_adapter(name: str, *, progress: bool) -> AdapterFile:
    """Find an adapter by its name; only a configuration is read or downloaded.

    :raises CheckpointNotFoundError: if there is no such file, folder or repository, or no adapter in it
    :raises ConfigError: if its configuration is invalid
    :raises CheckpointError: if the hub cannot be asked
    """
    place, file = _place(str(name), progress=progress)
    mapping: dict[str, Any] = {}
    if place.has(CONFIG):
        mapping = read_json(place.fetch(CONFIG), f"{place.origin}: {CONFIG}")
    where = f"{place.origin}: {CONFIG}"
    config = AdapterConfig.of(mapping, where=where)
    source = place
    if file is None:
        named = file_name(mapping, "lora_name", where, ENDING)
        if named is not None:
            source, file = locate(named, place, key="lora_name", progress=progress)
        else:
            file = next((each for each in FILES if place.has(each)), None)
    if file is None:
        raise CheckpointNotFoundError(_missing(source))
    return AdapterFile(name=str(name), place=source, file=file, config=config, base=mapping).found()


def _place(name: str, *, progress: bool) -> tuple[CheckpointSource, str | None]:
    """Return where an adapter of this name is, and its file if the name says which."""
    if name.startswith("hf://") and len(name.removeprefix("hf://").split("/")) > len(("owner", "name")):
        source, file = locate(name, LocalFolder(Path()), key="adapter", progress=progress)
        return source, _checked(file, name)
    path = expand_user(name)
    if name.strip() and is_path(path, "is_file"):
        return LocalFolder(path.parent), _checked(path.name, name)
    if name.strip() and is_path(path, "is_dir"):
        return LocalFolder(path), None
    repository, _, revision = name.removeprefix("hf://").partition("@")
    if REPOSITORY.fullmatch(repository):
        return HubRepository(repository, revision or None, progress=progress), None
    raise CheckpointNotFoundError(
        f"there is no adapter '{name}'; give a .safetensors file, a folder with lora.safetensors and config.json, or a "
        "repository of the hub, owner/name"
    )


def _checked(file: str, name: str) -> str:
    if not file.endswith(ENDING):
        raise CheckpointNotFoundError(
            f"'{name}' is no {ENDING} file; give the adapter's lora.safetensors, or the folder that it is in"
        )
    return file


def _missing(source: CheckpointSource) -> str:
    """Return a message that says what is missing, and what to do."""
    if source.has(OF_PEFT):
        return (
            f"{source.origin}: this is an adapter in the layout of PEFT, which is not read here; give one in the "
            "published layout, lora.safetensors and config.json, such as moshi-finetune saves"
        )
    return f"{source.origin}: there is no adapter in it; {' or '.join(FILES)} is wanted, beside its config.json"


def check_whole(source: CheckpointSource, weights: str) -> None:
    """Check that a checkpoint whose weights file has this name is not what a fine-tune saves beside its model.

    :raises CheckpointNotFoundError: if it is that
    """
    if "://" not in weights and not source.has(weights) and any(source.has(file) for file in FILES):
        raise CheckpointNotFoundError(
            f"{source.origin}: this is a fine-tune without the model that it was trained on; give that model's name, "
            "and this as its adapter: duplex.load(MODEL, adapter=...), or --adapter"
        )
