"""Repositories of the Hugging Face hub, through ``huggingface_hub``, with its cache, settings and progress bars.

The environment variables are ``huggingface_hub``'s own:

- ``HF_ENDPOINT`` another hub, or a mirror; ``HF_TOKEN`` (or ``hf auth login``) opens gated repositories
- ``HF_HOME`` or ``HF_HUB_CACHE`` where downloads are kept; ``HF_HUB_OFFLINE=1`` uses only what is kept there
- ``HF_HUB_ETAG_TIMEOUT`` (10) seconds for the hub to say what a repository holds
- ``HF_HUB_DOWNLOAD_TIMEOUT`` (10) seconds for a download to go on; it is resumed a few times, and fails for good when
  nothing came for three times as long at its start, twelve times once data was flowing

One request resolves a revision to a commit and its files; everything afterwards uses that commit. While the hub is
unreachable, the cache is used instead.
"""

import contextlib
import logging
import re
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import attrs

from duplex.atomic import atomic_write_text
from duplex.checkpoints.gguf_file import ENDING as GGUF
from duplex.checkpoints.gguf_file import header_of_beginning
from duplex.checkpoints.hub_client import Watchdog, hub_cache, hub_constants, import_hub, translate_error
from duplex.checkpoints.weights_file import Header, checked_header
from duplex.errors import CheckpointError, CheckpointNotFoundError, HubError, OutputError

__all__ = ["HubRepository"]

T = TypeVar("T")
log: logging.Logger = logging.getLogger(__name__)

COMMIT = re.compile(r"[0-9a-f]{40}")
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
MAX_NAME_CHARACTERS = 96


@attrs.frozen
class _RepositoryInfo:
    """The commit of a revision, and its files with their sizes in bytes where known."""

    commit: str
    files: dict[str, int | None]


class HubRepository:
    """One revision of the repository ``owner/name``: a branch, tag or commit, by default the default branch.

    :raises CheckpointNotFoundError: if the name or the revision is malformed
    """

    def __init__(self, name: str, revision: str | None = None, *, progress: bool = True) -> None:
        if not REPOSITORY.fullmatch(name) or len(name) > MAX_NAME_CHARACTERS or ".." in name or "--" in name:
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
        """The commit's hash: as given, from the hub, or the last one in the cache; ``None`` if it is unknown."""
        if self._revision is not None and COMMIT.fullmatch(self._revision):
            return self._revision
        if isinstance(self._info_or_error, _RepositoryInfo):
            return self._info_or_error.commit
        return self._recorded_commit()

    def cached(self, file: str) -> Path | None:
        """Return the path of a file in the cache, or ``None``."""
        if self.commit is None:
            return None
        path = self._folder / "snapshots" / self.commit / PurePosixPath(file)
        return path if path.is_file() else None

    def has(self, file: str) -> bool:
        """Return whether the repository has a file; while the hub is unreachable, whether the cache has it.

        :raises HubError: if the hub is unreachable and nothing of this revision is cached
        :raises CheckpointNotFoundError: if there is no such repository or revision
        """
        if self.cached(file) is not None:
            return True
        if isinstance(self._info_or_error, _RepositoryInfo):
            return file in self._info_or_error.files
        if self.commit is None or not (self._folder / "snapshots" / self.commit).is_dir():
            raise self._info_or_error
        return False

    def size(self, file: str) -> int | None:
        """Return a file's size in bytes, if the hub reports it."""
        return self._info_or_error.files.get(file) if isinstance(self._info_or_error, _RepositoryInfo) else None

    def fetch(self, file: str) -> Path:
        """Return the local path of a file, downloading it if it is not in the cache.

        :raises HubError: if the hub is unreachable, refuses access or is too slow
        :raises CheckpointNotFoundError: if there is no such repository, revision or file
        """
        cached = self.cached(file)
        if cached is not None:
            return cached
        listing = self._require_file(file)
        watch = Watchdog(self._folder / "blobs")

        def download() -> Path:
            bar = watch.progress_bar_class(visible=self._progress)
            path: str = import_hub().hf_hub_download(self.name, file, revision=listing.commit, tqdm_class=bar)
            return Path(path)

        return self._call_hub(download, watch, file)

    def read_header(self, file: str) -> Header:
        """Read a safetensors or GGUF file's header without downloading the file.

        :raises HubError: if the hub is out of reach, refuses access or is too slow
        :raises CheckpointNotFoundError: if there is no such file
        :raises WeightsError: if the file is neither
        """
        listing = self._require_file(file)
        if file.endswith(GGUF):
            begin = partial(self._call_hub, watch=Watchdog(), file=file)
            return header_of_beginning(lambda n: begin(partial(self._beginning, listing.commit, file, n)), file)

        def read() -> tuple[dict[str, Any], dict[str, str]]:
            found = self._api.parse_safetensors_file_metadata(self.name, file, revision=listing.commit)
            entries = {
                name: {
                    "dtype": tensor.dtype,
                    "shape": list(tensor.shape),
                    "data_offsets": list(tensor.data_offsets),
                }
                for name, tensor in found.tensors.items()
            }
            return entries, found.metadata

        return checked_header(*self._call_hub(read, Watchdog(), file), f"{self.origin}: {file}")[0]

    def _beginning(self, commit: str, file: str, length: int) -> tuple[bytes, int]:
        """Return the first bytes of a file, and its whole size; a hub that knows no ranges is not read to the end."""
        hub = import_hub()
        headers = {**hub.utils.build_hf_headers(), "Range": f"bytes=0-{length - 1}", "Accept-Encoding": "identity"}
        url, found = hub.hf_hub_url(self.name, file, revision=commit), bytearray()
        with hub.utils.get_session().stream("GET", url, headers=headers) as response:
            hub.utils.hf_raise_for_status(response)
            for piece in response.iter_bytes():
                found += piece
                if len(found) >= length:
                    break
            total = response.headers.get("Content-Range", "").rpartition("/")[2]
            size = int(total if total.isdecimal() else response.headers.get("Content-Length", len(found)))
        return bytes(found[:length]), max(size, len(found[:length]))

    def record_revision(self) -> None:
        """Record in the cache which commit the revision's name refers to, for when the hub is unreachable.

        Files are downloaded by commit, so that all are of the same one, and the hub's client records names only when
        it downloads by name. To be called once all files are downloaded. Others may read the record at any moment.
        """
        if not isinstance(self._info_or_error, _RepositoryInfo):
            return
        commit = self._info_or_error.commit
        if commit not in (self._revision, self._recorded_commit()):
            with contextlib.suppress(OSError, OutputError):  # a cache that cannot be written is still a cache
                self._ref_file.parent.mkdir(parents=True, exist_ok=True)
                atomic_write_text(self._ref_file, commit)

    @property
    def _api(self) -> Any:
        return import_hub().HfApi(endpoint=hub_constants().ENDPOINT)

    @cached_property
    def _folder(self) -> Path:
        """The repository's folder in the cache, in the hub's documented layout."""
        return hub_cache() / f"models--{self.name.replace('/', '--')}"

    @property
    def _ref_file(self) -> Path:
        """The cache's file with the commit that the revision's name refers to."""
        return self._folder / "refs" / (self._revision or "main")

    def _recorded_commit(self) -> str | None:
        """Return the commit that the revision's name referred to when it was last asked for, or ``None``."""
        with contextlib.suppress(OSError, ValueError):  # none, or what is no text
            return self._ref_file.read_text().strip() or None
        return None

    @cached_property
    def _info_or_error(self) -> _RepositoryInfo | CheckpointError:
        """The hub's answer, or the error that explains why there is none."""

        def ask() -> _RepositoryInfo:
            timeout: float = hub_constants().HF_HUB_ETAG_TIMEOUT
            info = self._api.model_info(self.name, revision=self._revision, timeout=timeout, files_metadata=True)
            if not info.sha:
                raise ValueError("the answer names no commit")
            files: list[Any] = info.siblings or []
            return _RepositoryInfo(info.sha, {file.rfilename: file.size for file in files})

        try:
            return self._call_hub(ask, Watchdog(), None)
        except CheckpointError as error:
            log.info("%s; looking into the cache", error)
            return error

    def _require_file(self, file: str) -> _RepositoryInfo:
        """Return the repository's information, after checking that it has the file."""
        answer = self._info_or_error
        if isinstance(answer, CheckpointNotFoundError):
            raise answer
        if isinstance(answer, CheckpointError):
            raise HubError(f"the cache has not got {file}, and the hub cannot be asked: {answer}")
        if file not in answer.files:
            raise CheckpointNotFoundError(f"{self.origin}: the repository has no file '{file}'; look at its file list")
        return answer

    def _call_hub(self, call: Callable[[], T], watch: Watchdog, file: str | None) -> T:
        """Make a call to the hub under the watchdog, translating its errors to this package's."""
        try:
            return watch.run(call)
        except CheckpointError:
            raise
        except Exception as error:
            # The hub's client lets through whatever its HTTP library raises.
            raise translate_error(error, self.origin, file) from error
