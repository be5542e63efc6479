"""Calls to ``huggingface_hub`` with a limit on stalled downloads, and its errors translated to this package's."""

import concurrent.futures
import contextlib
import importlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from duplex.errors import CheckpointError, CheckpointNotFoundError, HubError, WeightsError

__all__ = ["Watchdog", "hub_cache", "hub_constants", "import_hub", "translate_error"]

T = TypeVar("T")

LOG_IN = "log in with `hf auth login` or set HF_TOKEN"
OR_CACHED = "or set HF_HUB_OFFLINE=1 to use what is cached"
STALL_FACTOR_BEFORE_DATA = 3
STALL_FACTOR = 12
"""Multiples of ``HF_HUB_DOWNLOAD_TIMEOUT`` that may pass without progress. Once data flows, progress is reported in
blocks of 10 MB only."""
POLL_INTERVAL = 0.05
"""Seconds between checks of a running call."""


def import_hub() -> Any:
    """Return ``huggingface_hub``, which takes longer to import than ``import duplex`` may."""
    return importlib.import_module("huggingface_hub")


def hub_constants() -> Any:
    """Return ``huggingface_hub.constants``: its settings, as read from the environment variables."""
    return importlib.import_module("huggingface_hub.constants")


def hub_cache() -> Path:
    """Return the folder in which the hub's client keeps what has been downloaded.

    :raises HubError: if nothing says where that is: users without a home have to
    """
    try:
        return Path(hub_constants().HF_HUB_CACHE).expanduser()
    except RuntimeError:
        raise HubError("there is no home folder to keep models in; set HF_HOME to a folder for them") from None


class Watchdog:
    """Runs a call in a thread of its own, and abandons it when a download has stalled for too long.

    The hub's client retries for minutes, and for ever with a server that truncates every answer. An abandoned call
    ends by itself, at its next progress or its last retry. ``folder`` is where partial downloads are written.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._flowing = False
        self._received = 0
        self._abandoned = False

    def run(self, call: Callable[[], T]) -> T:
        """Return what the call returns, and raise what it raises.

        :raises HubError: if there was no progress for too long
        """
        constants = hub_constants()
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        threading.Thread(target=_run_into_future, args=(future, call), name="duplex-hub", daemon=True).start()
        furthest, since = 0, time.monotonic()
        try:
            while not concurrent.futures.wait([future], timeout=POLL_INTERVAL).done:
                # Another process may be downloading the same file: this one waits for its lock meanwhile.
                partial = self._partial_bytes()
                reached = max(self._received, partial)
                if reached > furthest:
                    furthest, since = reached, time.monotonic()
                patience = constants.HF_HUB_DOWNLOAD_TIMEOUT * (
                    STALL_FACTOR if self._flowing or partial else STALL_FACTOR_BEFORE_DATA
                )
                if time.monotonic() - since > patience:
                    raise HubError(
                        f"{constants.ENDPOINT} sent nothing new for {patience:g} s; try again later, "
                        "or raise HF_HUB_DOWNLOAD_TIMEOUT on a slow line"
                    )
            return future.result()
        finally:
            self._abandoned = True

    def progress_bar_class(self, *, visible: bool) -> Any:
        """Return a ``tqdm`` class that reports progress to this watchdog, and stops a call that was abandoned."""
        base: Any = importlib.import_module("huggingface_hub.utils").tqdm

        def start(bar: Any, *args: Any, **kwargs: Any) -> None:
            base.__init__(bar, *args, **(kwargs if visible else kwargs | {"disable": True}))
            self._flowing = True

        def update(bar: Any, n: float | None = 1) -> Any:
            if self._abandoned:
                raise HubError("the download was given up")
            self._received += int(n or 0)
            return base.update(bar, n)

        return type("Bar", (base,), {"__init__": start, "update": update})

    def _partial_bytes(self) -> int:
        if self._folder is not None:
            with contextlib.suppress(OSError):
                return sum(path.stat().st_size for path in self._folder.glob("*.incomplete"))
        return 0


def _run_into_future(future: "concurrent.futures.Future[T]", call: Callable[[], T]) -> None:
    try:
        future.set_result(call())
    except BaseException as error:  # noqa: BLE001 -- it is raised again in the thread that waits
        future.set_exception(error)


def translate_error(error: Exception, origin: str, file: str | None) -> CheckpointError:
    """Return this package's error for one of the hub client's; ``origin`` and ``file`` are what was requested."""
    errors = importlib.import_module("huggingface_hub.errors")
    hub = hub_constants().ENDPOINT
    named = f"{origin}: {file}" if file else origin
    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # the client says "not cached" for whatever went wrong on the way
    refused = isinstance(error, errors.GatedRepoError | errors.DisabledRepoError)
    if refused or (_status(error) in (401, 403) and not isinstance(error, errors.RepositoryNotFoundError)):
        return HubError(f"{origin}: {hub} refuses access; accept the terms on the repository's page, and {LOG_IN}")
    if isinstance(error, errors.RepositoryNotFoundError):
        return CheckpointNotFoundError(
            f"{origin}: no such repository on {hub}, or a private one; check it, or {LOG_IN}"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return CheckpointNotFoundError(f"{origin}: the repository has no such revision; give a branch, tag or commit")
    if isinstance(error, errors.EntryNotFoundError):
        return CheckpointNotFoundError(f"{named}: the repository has no such file; look at its file list")
    if isinstance(error, errors.SafetensorsParsingError):
        return WeightsError(f"{named}: this is no safetensors file, or a damaged one; choose another file")
    return HubError(f"{named}: {_cause(error, hub)}")


def _status(error: Exception) -> int | None:
    """Return the HTTP status code of an error, if it has one."""
    response: Any = getattr(error, "response", None)
    return getattr(response, "status_code", None)


def _cause(error: Exception, hub: str) -> str:
    """Return in one line why the request failed, and what to do."""
    # The client's HTTP library differs between its versions: its errors are known by their names.
    kinds = {kind.__name__ for kind in type(error).__mro__}
    reason = " ".join(str(error).split())[:200]
    status = _status(error)
    full = error.strerror if isinstance(error, OSError) else None
    texts = (
        (
            "OfflineModeIsEnabled" in kinds,
            "HF_HUB_OFFLINE is set and the cache has not got it; unset it once to download",
        ),
        (status == 404, f"{hub} does not answer as a hub does; check HF_ENDPOINT"),  # noqa: PLR2004 -- HTTP's number
        (status is not None, f"{hub} answers with an error (HTTP {status}); try again later, {OR_CACHED}"),
        ("TimeoutException" in kinds, f"{hub} does not answer in time; check the network, {OR_CACHED}"),
        ("ProxyError" in kinds, f"the proxy refuses ({reason}); check HTTPS_PROXY and NO_PROXY"),
        (
            "TransportError" in kinds,
            f"{hub} cannot be reached or broke off; check network and HF_ENDPOINT, {OR_CACHED}",
        ),
        ("FileMetadataError" in kinds, f"{hub} does not answer as a hub does; check HF_ENDPOINT"),
        (reason.startswith("Consistency check"), "the download was cut short; run again"),
        (full is not None, f"the download cannot be kept ({full}); free space, or set HF_HOME to another folder"),
        (isinstance(error, ValueError), f"{hub} does not answer as a hub does ({reason}); check HF_ENDPOINT"),
    )
    return next((text for holds, text in texts if holds), f"the download failed ({reason}); run again")
