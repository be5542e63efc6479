"""Repositories of the Hugging Face hub, through ``huggingface_hub``: its cache, its settings, its progress bars.

The environment variables are ``huggingface_hub``'s own:

- ``HF_ENDPOINT`` another hub, or a mirror; ``HF_TOKEN`` (or ``hf auth login``) opens gated repositories
- ``HF_HOME`` or ``HF_HUB_CACHE`` where downloads are kept; ``HF_HUB_OFFLINE=1`` uses only what is kept there
- ``HF_HUB_ETAG_TIMEOUT`` (10) seconds for the hub to say what a repository holds
- ``HF_HUB_DOWNLOAD_TIMEOUT`` (10) seconds for a download to go on; it is resumed a few times, and fails for good when
  nothing came for three times as long at its start, twelve times once data was flowing

One request tells a repository's commit and files; everything afterwards belongs to that commit. When the hub is out of
reach, what the cache holds is used instead.
"""

import contextlib
import logging
import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import attrs

from duplex.checkpoints.hub_client import Watch, client, settings, translated
from duplex.checkpoints.weights_file import Header, TensorInfo
from duplex.errors import CheckpointError, CheckpointNotFoundError, HubError

__all__ = ["HubRepository"]

T = TypeVar("T")
log: logging.Logger = logging.getLogger(__name__)

COMMIT = re.compile(r"[0-9a-f]{40}")
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
LONGEST_NAME = 96


@attrs.frozen
class _Listing:
    """What the hub says of a repository: its commit, and its files with their sizes in bytes where known."""

    commit: str
    files: dict[str, int | None]


class HubRepository:
    """One revision of ``owner/name``: a branch, a tag or a commit; the default branch without any.

    :raises CheckpointNotFoundError: if the name or the revision cannot be one
    """

    def __init__(self, name: str, revision: str | None = None, *, progress: bool = True) -> None:
        if not REPOSITORY.fullmatch(name) or len(name) > LONGEST_NAME or ".." in name or "--" in name:
            raise CheckpointNotFoundError(
                f"'{name}' is not the name of a hub repository; give owner/name, such as kyutai/moshika-pytorch-bf16"
            )
        if revision is not None and (not revision or ".." in revision or revision.startswith("/")):
            raise CheckpointNotFoundError(f"{name}: '{revision}' is no revision; give a branch, tag or commit")
        self.name = name
        self._revision = revision
        self._progress = progress

    @property
    def origin(self) -> str:
        """The repository, for messages."""
        return f"{self.name}@{self._revision}" if self._revision else self.name

    @cached_property
    def commit(self) -> str | None:
        """The commit's hash: as given, as the hub says, or the last one in the cache; ``None`` if nothing tells it."""
        if self._revision is not None and COMMIT.fullmatch(self._revision):
            return self._revision
        if isinstance(self._answer, _Listing):
            return self._answer.commit
        with contextlib.suppress(OSError):
            return self._note.read_text().strip() or None
        return None

    def cached(self, file: str) -> Path | None:
        """Return a file if the cache has it."""
        if self.commit is None:
            return None
        path = self._folder / "snapshots" / self.commit / PurePosixPath(file)
        return path if path.is_file() else None

    def has(self, file: str) -> bool:
        """Tell whether the repository holds a file; while the hub is out of reach, whether the cache does.

        :raises HubError: if the hub is out of reach and nothing of this revision is cached
        :raises CheckpointNotFoundError: if there is no such repository or revision
        """
        if self.cached(file) is not None:
            return True
        if isinstance(self._answer, _Listing):
            return file in self._answer.files
        if self.commit is None or not (self._folder / "snapshots" / self.commit).is_dir():
            raise self._answer
        return False

    def size(self, file: str) -> int | None:
        """Return a file's size in bytes, where the hub tells it."""
        return self._answer.files.get(file) if isinstance(self._answer, _Listing) else None

    def fetch(self, file: str) -> Path:
        """Return a file of the repository, downloaded if the cache has not got it.

        :raises HubError: if the hub is out of reach, refuses access or is too slow
        :raises CheckpointNotFoundError: if there is no such repository, revision or file
        """
        cached = self.cached(file)
        if cached is not None:
            return cached
        listing = self._require(file)
        watch = Watch(self._folder / "blobs")

        def download() -> Path:
            bar = watch.bar_class(visible=self._progress)
            path: str = client().hf_hub_download(self.name, file, revision=listing.commit, tqdm_class=bar)
            return Path(path)

        return self._ask(download, watch, file)

    def header(self, file: str) -> Header:
        """Read a safetensors file's header without downloading the file.

        :raises HubError: if the hub is out of reach, refuses access or is too slow
        :raises CheckpointNotFoundError: if there is no such file
        :raises WeightsError: if the file is not safetensors
        """
        listing = self._require(file)

        def read() -> Header:
            found = self._api.parse_safetensors_file_metadata(self.name, file, revision=listing.commit)
            sizes: dict[str, int] = {}
            for tensor in found.tensors.values():
                first, last = tensor.data_offsets
                sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + last - first
            tensors = {name: TensorInfo(tensor.dtype, tuple(tensor.shape)) for name, tensor in found.tensors.items()}
            return Header(tensors, found.metadata, sizes)

        return self._ask(read, Watch(), file)

    def remember(self) -> None:
        """Note in the cache that the revision's name stands for this commit, for when the hub is out of reach.

        Files are downloaded by commit, so that all are of one, and the hub's client notes names only when it is asked
        by name. To be called when all files are there.
        """
        if isinstance(self._answer, _Listing) and self._revision != self._answer.commit:
            with contextlib.suppress(OSError):  # a cache that cannot be written is still a cache
                self._note.parent.mkdir(parents=True, exist_ok=True)
                self._note.write_text(self._answer.commit)

    @property
    def _api(self) -> Any:
        return client().HfApi(endpoint=settings().ENDPOINT)

    @cached_property
    def _folder(self) -> Path:
        """The repository's folder in the cache, laid out as the hub's documentation describes."""
        return Path(settings().HF_HUB_CACHE).expanduser() / f"models--{self.name.replace('/', '--')}"

    @property
    def _note(self) -> Path:
        """The file that says which commit the revision's name stands for."""
        return self._folder / "refs" / (self._revision or "main")

    @cached_property
    def _answer(self) -> _Listing | CheckpointError:
        """What the hub says; or, if it will not, the error that says why."""

        def ask() -> _Listing:
            timeout: float = settings().HF_HUB_ETAG_TIMEOUT
            info = self._api.model_info(self.name, revision=self._revision, timeout=timeout, files_metadata=True)
            if not info.sha:
                raise ValueError("the answer names no commit")
            files: list[Any] = info.siblings or []
            return _Listing(info.sha, {file.rfilename: file.size for file in files})

        try:
            return self._ask(ask, Watch(), None)
        except CheckpointError as error:
            log.info("%s; looking into the cache", error)
            return error

    def _require(self, file: str) -> _Listing:
        """Return the listing, once it is sure that the file is in it."""
        answer = self._answer
        if isinstance(answer, CheckpointNotFoundError):
            raise answer
        if isinstance(answer, CheckpointError):
            raise HubError(f"the cache has not got {file}, and the hub cannot be asked: {answer}")
        if file not in answer.files:
            raise CheckpointNotFoundError(f"{self.origin}: the repository has no file '{file}'; look at its file list")
        return answer

    def _ask(self, call: Callable[[], T], watch: Watch, file: str | None) -> T:
        """Make a call to the hub that ends, and fails only with this package's errors."""
        try:
            return watch.run(call)
        except CheckpointError:
            raise
        except Exception as error:
            # The hub's client lets through whatever its HTTP library raises.
            raise translated(error, self.origin, file) from error
