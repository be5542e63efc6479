"""``duplex serve``: the server."""

import logging
import os
import tomllib
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import click

from duplex.cli.options import LoadOptions, many_models_options, transcriber_option
from duplex.cli.text import one_line, plain
from duplex.errors import DuplexError, UsageError

if TYPE_CHECKING:
    from duplex.backends.shared.memory import SharedMemory

__all__ = ["serve"]

log: logging.Logger = logging.getLogger(__name__)

SESSIONS = 4
"""Conversations side by side, if nothing else is said."""
CERTIFICATES = Path("~/.config/duplex/tls")
TOKENS = "DUPLEX_TOKENS"
TWILIO = "DUPLEX_TWILIO_AUTH_TOKEN"
FILES = click.Path(path_type=Path)
_SETTINGS = (
    *("queue", "queue_timeout", "per_address", "session_limit", "idle_timeout", "voices"),
    *("resume_grace", "state_store", "move_to"),
    *("record", "record_days", "record_gigabytes", "record_with_consent", "notice"),
)
"""Options that are settings of the same name."""


def _read_file(context: click.Context, _: click.Parameter, path: Path | None) -> None:
    """Take what a settings file says for what has not been given otherwise.

    :raises UsageError: if it cannot be read, or has a word that is no option
    """
    if path is None:
        return
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # of TOML, of text, of an integer of thousands of digits
        raise UsageError(f"{path} cannot be read ({error}); it is a TOML file with the options' names") from None
    known = {parameter.name for parameter in context.command.params}
    read = {name.replace("-", "_"): value for name, value in settings.items()}
    for name in read:
        if name not in known:
            raise UsageError(f"{path} has '{name}', which is no option of `duplex serve`; see duplex serve --help")
    for parameter in context.command.params:
        if parameter.multiple and isinstance(read.get(str(parameter.name)), str):  # of one's letters, each would be one
            read[str(parameter.name)] = [read[str(parameter.name)]]
    context.default_map = {**(context.default_map or {}), **read}


@click.command(
    short_help="Serve conversations to browsers and programs.", context_settings={"auto_envvar_prefix": "DUPLEX"}
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8998, show_default=True, help="0 takes a free one.")
@click.option(
    "--queue", type=click.IntRange(0), default=16, show_default=True, help="Callers who may wait for a place."
)
@click.option("--queue-timeout", type=float, default=120.0, show_default=True, metavar="SECONDS", help="How long.")
@click.option("--per-address", type=click.IntRange(0), default=0, help="Calls of one address; 0 sets no limit.")
@click.option("--session-limit", type=float, default=0.0, metavar="SECONDS", help="Length of a call; 0: no limit.")
@click.option(
    "--idle-timeout", type=float, default=30.0, show_default=True, metavar="SECONDS", help="Without a sign of life."
)
@click.option(
    "--drain", type=float, default=30.0, show_default=True, metavar="SECONDS", help="For calls, when stopped."
)
@click.option(
    "--resume-grace", type=float, default=30.0, show_default=True, metavar="SECONDS", help="For a line that broke."
)
@click.option(
    "--state-store",
    metavar="FOLDER|URL",
    help="Keep conversations there (redis://...), for other servers to go on with.",
)
@click.option("--move-to", multiple=True, metavar="URL", help="Server that calls move to. May be given again.")
@click.option("--token-file", type=FILES, metavar="FILE", help="Tokens, one a line, each with a name or not: alice:...")
@click.option("--insecure", is_flag=True, help="Let others in the network talk without a token.")
@click.option("--origin", multiple=True, metavar="URL", help="Foreign pages that may call. May be given again.")
@click.option("--allow-host", multiple=True, metavar="NAME", help="A name of this server. May be given again.")
@click.option(
    "--fronts",
    type=click.IntRange(1),
    help="Processes that connections, sound and protocols are handled in; with 1 that is the model's own. If left out: "
    "one for every 64 places, at most one for every 4 cores; 1 with --transcriber or OTEL_..., or not on Linux.",
)
@click.option("--trusted-proxy", multiple=True, metavar="ADDRESS", help="Whose X-Forwarded-For is believed.")
@click.option("--root-path", default="", metavar="PATH", help="Of the page at a proxy that keeps it: /talk.")
@click.option(
    "--wires",
    multiple=True,
    metavar="NAME",
    help="A protocol that callers may speak: chat, personaplex, live, realtime, twilio, telnyx, plivo, asr, "
    "speech. May be given again; all if left out.",
)
@click.option("--tls", is_flag=True, help="HTTPS, with a certificate of its own if none is given.")
@click.option("--tls-certificate", type=FILES, metavar="FILE", help="A certificate (PEM).")
@click.option("--tls-key", type=FILES, metavar="FILE", help="Its key (PEM).")
@click.option("--record", type=FILES, metavar="FOLDER", help="Record all conversations there.")
@click.option("--record-days", type=float, default=0.0, metavar="DAYS", help="Keep recordings so long; 0: for ever.")
@click.option("--record-gigabytes", type=float, default=0.0, metavar="GB", help="Delete the oldest above; 0: none.")
@click.option("--record-with-consent", is_flag=True, help="Record only who has agreed, or has heard the --notice.")
@click.option("--notice", type=FILES, metavar="FILE", help="Played to callers by telephone who are recorded.")
@click.option("--voices", type=FILES, metavar="FOLDER", help="Voices that callers may name, beside a checkpoint's own.")
@click.option(
    "--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Of the log."
)
@click.option(
    "--settings",
    type=FILES,
    is_eager=True,
    expose_value=False,
    callback=_read_file,
    metavar="FILE",
    help="Options, as TOML.",
)
@transcriber_option
@many_models_options
def serve(load_options: list[LoadOptions], log_format: Any, **given: Any) -> None:
    """Serve conversations on a model, or several, to browsers and programs, many at a time.

    The page is at the address that is printed; programs open a websocket at /api/chat, as clients of the original do,
    or at /v1/live/sessions, as OpenAI's do, and telephone services at /twilio, /telnyx and /plivo (--wires). What a
    model of speech synthesis shall say is sent to /v1/audio/speech.
    Every option can also be set in the environment (DUPLEX_PORT, DUPLEX_QUEUE_TIMEOUT, ...) or a file (--settings);
    the command line comes first, then the environment, then the file. Ctrl-C lets conversations end, twice stops.

    \b
    Examples:
      duplex serve
      duplex serve --sessions 16 --record calls
      duplex serve --model tiny --model kyutai/moshika-pytorch-bf16
      duplex serve --host 0.0.0.0 --tls --token-file tokens.txt
    """  # noqa: D301 -- \b is click's mark for lines that stay as they are
    from duplex.server.logs import configure_logging  # noqa: PLC0415 -- `duplex --help` need not wait for it

    configure_logging(log_format)
    with _errors_as_json() if log_format == "json" else nullcontext():
        if log_format == "json":
            _serve(load_options, given, _tell_address_as_json, _tell_memory_as_json)
        else:
            _serve(load_options, given, _tell_address, _tell_memory)


@contextmanager
def _errors_as_json() -> Generator[None]:
    """Log an error as a line of JSON, where a command prints it; nothing else prints."""
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    try:
        yield
    except Exception as error:
        foreseen = isinstance(error, DuplexError)
        log.critical(one_line(error), exc_info=None if foreseen else error)
        raise click.exceptions.Exit(2 if isinstance(error, UsageError) else 1) from None


def _check_memory(
    load_options: list[LoadOptions], transcriber: str | None, tell: Callable[["SharedMemory"], None]
) -> None:
    """Tell what several models take of each device, before any is loaded.

    :raises UsageError: if a device has not as much
    """
    from duplex.engine.side_by_side import predict_side_by_side  # noqa: PLC0415
    from duplex.transcription.loading import WHISPER  # noqa: PLC0415

    models = [(each.model, each.load_arguments(SESSIONS)) for each in load_options]
    if transcriber is not None and not transcriber.startswith(WHISPER):
        models.append((transcriber, {"sessions": _most_sessions(load_options)}))
    if len(models) == 1:  # which checks that itself
        return
    for shared in predict_side_by_side(models):
        shared.check()
        tell(shared)


def _most_sessions(load_options: list[LoadOptions]) -> int:
    return sum(each.sessions or SESSIONS for each in load_options)


def _tell_memory(shared: "SharedMemory") -> None:
    click.echo(plain(f"duplex: {shared}"), err=True)


def _tell_memory_as_json(shared: "SharedMemory") -> None:
    from duplex.server.logs import fields  # noqa: PLC0415

    models = [{"name": name, "bytes": memory.total, "sessions": memory.sessions} for name, memory in shared.models]
    log.info("memory", extra=fields(device=shared.device, bytes=shared.total, there=shared.there, models=models))


def _tell_address(model: str, address: str) -> None:
    click.echo(plain(f"duplex: {model} listens at {address}"), err=True)


def _tell_address_as_json(model: str, address: str) -> None:
    from duplex.server.logs import fields  # noqa: PLC0415

    log.info("listening", extra=fields(model=model, address=address))


def _serve(
    load_options: list[LoadOptions],
    given: dict[str, Any],
    tell: Callable[[str, str], None],
    tell_memory: Callable[["SharedMemory"], None],
) -> None:
    import duplex  # noqa: PLC0415
    from duplex.server import check_start  # noqa: PLC0415
    from duplex.server import serve as run  # noqa: PLC0415
    from duplex.server.listening import check_fronts, usual_fronts  # noqa: PLC0415
    from duplex.server.telemetry.environment import telemetry_of_environment  # noqa: PLC0415
    from duplex.transcription.loading import load_transcriber  # noqa: PLC0415

    telemetry = telemetry_of_environment()
    name: str | None = given["transcriber"]
    alone = telemetry is not None or name is not None
    fronts = given["fronts"] or (1 if alone else usual_fronts(_most_sessions(load_options)))
    check_fronts(fronts, transcriber=name is not None, telemetry=telemetry is not None)
    settings, listening = _settings(given), _listening(given, fronts)
    check_start(settings, listening)

    def started(port: int) -> None:
        host = f"[{listening.host}]" if ":" in listening.host else listening.host
        tell(
            ", ".join(each.model for each in load_options),
            f"{'http' if listening.certificate is None else 'https'}://{host}:{port}",
        )

    _check_memory(load_options, name, tell_memory)
    with ExitStack() as loaded:
        transcriber = None
        if name is not None:
            transcriber = loaded.enter_context(load_transcriber(name, sessions=_most_sessions(load_options)))
        models = [
            loaded.enter_context(duplex.load(each.model, **each.load_arguments(SESSIONS))) for each in load_options
        ]
        anyio.run(
            lambda: run(models, settings, listening, transcriber=transcriber, telemetry=telemetry, started=started),
            backend_options={"use_uvloop": find_spec("uvloop") is not None},  # there is none for Windows
        )


def _settings(given: dict[str, Any]) -> Any:
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


def _listening(given: dict[str, Any], fronts: int) -> Any:
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
