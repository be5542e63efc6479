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
from duplex.cli.ray import RayOptions, replica_options
from duplex.cli.server_options import fronts_of, listening_of, settings_of
from duplex.cli.text import one_line, plain
from duplex.errors import DuplexError, UsageError

if TYPE_CHECKING:
    from duplex.backends.shared.memory import SharedMemory

__all__ = ["serve"]

log: logging.Logger = logging.getLogger(__name__)

SESSIONS = 4
"""Conversations side by side, if nothing else is said."""
FILES = click.Path(path_type=Path)


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
    "one for every 64 places, at most one for every core; 1 with --transcriber or "
    "speech synthesis, or not on Linux.",
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
@replica_options
@transcriber_option
@many_models_options
def serve(load_options: list[LoadOptions], log_format: Any, on_ray: RayOptions | None, **given: Any) -> None:
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
      duplex serve --ray local --replicas 2:2
    """  # noqa: D301 -- \b is click's mark for lines that stay as they are
    from duplex.server.logs import configure_logging  # noqa: PLC0415 -- `duplex --help` need not wait for it

    configure_logging(log_format)
    as_json = log_format == "json"
    with _errors_as_json() if as_json else nullcontext():
        tell = _tell_address_as_json if as_json else _tell_address
        if on_ray is not None:
            _serve_on_ray(load_options, given, tell, on_ray, log_format)
        else:
            _serve(load_options, given, tell, _tell_memory_as_json if as_json else _tell_memory)


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
    from duplex.server.telemetry.environment import telemetry_of_environment  # noqa: PLC0415
    from duplex.transcription.loading import load_transcriber  # noqa: PLC0415

    telemetry = telemetry_of_environment()
    name: str | None = given["transcriber"]
    fronts = fronts_of(
        given["fronts"], load_options, sessions=_most_sessions(load_options), transcriber=name is not None
    )
    settings, listening = settings_of(given), listening_of(given, fronts)
    check_start(settings, listening)
    _check_memory(load_options, name, tell_memory)
    with ExitStack() as loaded:
        transcriber = None
        if name is not None:
            transcriber = loaded.enter_context(load_transcriber(name, sessions=_most_sessions(load_options)))
        models = [
            loaded.enter_context(duplex.load(each.model, **each.load_arguments(SESSIONS))) for each in load_options
        ]
        started = _started(load_options, listening, tell)
        anyio.run(
            lambda: run(models, settings, listening, transcriber=transcriber, telemetry=telemetry, started=started),
            backend_options={"use_uvloop": find_spec("uvloop") is not None},  # there is none for Windows
        )


def _started(
    load_options: list[LoadOptions], listening: Any, tell: Callable[[str, str], None]
) -> Callable[[int], None]:
    """Return what tells the address, when the port is known."""
    scheme = "http" if listening.certificate is None else "https"
    host = f"[{listening.host}]" if ":" in listening.host else listening.host
    models = ", ".join(each.model for each in load_options)
    return lambda port: tell(models, f"{scheme}://{host}:{port}")


def _serve_on_ray(
    load_options: list[LoadOptions],
    given: dict[str, Any],
    tell: Callable[[str, str], None],
    on_ray: RayOptions,
    log_format: Any,
) -> None:
    from duplex.checkpoints.checkpoint import resolve  # noqa: PLC0415
    from duplex.cluster.serving import ModelLoading, Replicas, serve_on_cluster  # noqa: PLC0415

    settings, listening = settings_of(given), listening_of(given)
    if (given["fronts"] or 1) > 1:
        raise UsageError("with --ray every replica answers for itself; leave --fronts out, or have more --replicas")
    if settings.move_to:
        raise UsageError("--move-to is for servers that know each other; with --ray calls move to the other replicas")
    found = [resolve(each.model, revision=each.revision, adapter=each.adapter) for each in load_options]
    serve_on_cluster(
        ModelLoading(
            models=[(each.model, each.load_arguments(SESSIONS)) for each in load_options],
            transcriber=given["transcriber"],
        ),
        Replicas(
            address=on_ray.address,
            least=on_ray.replicas[0],
            most=on_ray.replicas[1],
            device=load_options[0].device,
            cpus=on_ray.worker_cpus,
            usual_cpus=1.0 if all(each.small for each in found) else None,
            wait=on_ray.wait,
            verbose=bool(click.get_current_context().find_root().obj),
        ),
        settings,
        listening,
        log_format=log_format,
        started=_started(load_options, listening, tell),
    )
