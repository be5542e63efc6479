"""What the options of ``duplex serve`` mean: a server's rules, and where it listens."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from duplex.cli.options import LoadOptions
from duplex.errors import UsageError

if TYPE_CHECKING:
    from duplex.server import Listening, Settings

__all__ = ["fronts_of", "listening_of", "settings_of"]

CERTIFICATES = Path("~/.config/duplex/tls")
TOKENS = "DUPLEX_TOKENS"
TWILIO = "DUPLEX_TWILIO_AUTH_TOKEN"
_SETTINGS = (
    *("queue", "queue_timeout", "per_address", "session_limit", "idle_timeout", "voices"),
    *("resume_grace", "state_store", "move_to"),
    *("record", "record_days", "record_gigabytes", "record_with_consent", "notice"),
)
"""Options that are settings of the same name."""


def settings_of(given: Mapping[str, Any]) -> "Settings":
    """Return a server's rules for its callers.

    :raises UsageError: if an option is out of range, or a file cannot be read
    """
    from duplex.server import Settings  # noqa: PLC0415

    return Settings(
        tokens=_tokens(given["token_file"]),
        origins=given["origin"],
        hosts=given["allow_host"],
        twilio_auth_token=os.environ.get(TWILIO, ""),
        **({"wires": given["wires"]} if given["wires"] else {}),
        **{name: given[name] for name in _SETTINGS},
    )


def _tokens(path: Path | None) -> tuple[str, ...]:
    """Return the tokens of a file and of the environment, one a line or between spaces."""
    try:
        written = "" if path is None else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read ({error}); it has a token a line") from None
    if path is not None and not written.strip():
        # Without a token everybody may call, which is not what somebody means who gives a file of them.
        raise UsageError(f"{path} has no token; write one of 16 characters or more into it, or leave --token-file out")
    return tuple(f"{written} {os.environ.get(TOKENS, '')}".split())


def _certificates() -> Path:
    try:
        return CERTIFICATES.expanduser()
    except RuntimeError:
        raise UsageError(
            "there is no home folder to keep a certificate in; set HOME, or give --tls-certificate and --tls-key"
        ) from None


def listening_of(given: Mapping[str, Any], fronts: int = 1) -> "Listening":
    """Return where a server listens; with ``--tls`` alone a certificate is made.

    :raises UsageError: if options do not go together
    """
    from duplex.server import Listening  # noqa: PLC0415

    certificate, key = given["tls_certificate"], given["tls_key"]
    if (certificate is None) != (key is None):
        raise UsageError("a certificate and its key belong together; give --tls-certificate and --tls-key")
    if given["tls"] and certificate is None:
        from duplex.server.certificate import self_signed_certificate  # noqa: PLC0415

        certificate, key = self_signed_certificate(_certificates(), given["host"])
    return Listening(
        certificate=certificate,
        key=key,
        proxies=given["trusted_proxy"],
        fronts=fronts,
        **{name: given[name] for name in ("host", "port", "insecure", "drain", "root_path")},
    )


def fronts_of(given: int | None, load_options: Sequence[LoadOptions], *, sessions: int, transcriber: bool) -> int:
    """Return how many fronts there shall be: as many as were given, or as this machine and what is wanted allow.

    :raises UsageError: if so many cannot do what is wanted
    """
    from duplex.checkpoints.checkpoint import resolve  # noqa: PLC0415
    from duplex.server.listening import check_fronts, usual_fronts  # noqa: PLC0415

    fronts = given or usual_fronts(sessions)
    if fronts == 1:
        return 1
    synthesis = any(resolve(each.model, revision=each.revision).model_type == "tts" for each in load_options)
    if given is None and (transcriber or synthesis):
        return 1
    check_fronts(fronts, transcriber=transcriber, synthesis=synthesis)
    return fronts
