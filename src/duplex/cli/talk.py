"""``duplex talk``: a conversation by the microphone and the loudspeaker of this machine."""

import os
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import attrs
import click

from duplex.cli.options import LoadOptions, dialogue_options
from duplex.cli.text import one_line, plain
from duplex.errors import AudioDeviceError, UsageError
from duplex.options import SessionOptions

if TYPE_CHECKING:
    from duplex.engine.model import Model
    from duplex.talk.call import Call, OpenDialogue
    from duplex.talk.line import Device

__all__ = ["talk"]

TOKEN = "DUPLEX_TOKEN"  # noqa: S105 -- the name of a variable
RECORDINGS = Path("out")
"""Where the key r records to, if nothing else is said."""


def _device(_context: click.Context, _parameter: click.Parameter, value: str | None) -> "Device":
    """Take digits as a device's number."""
    return int(value) if value is not None and value.isdecimal() else value


@click.command(short_help="Talk to a model by microphone and loudspeaker.")
@click.option("--server", metavar="URL", help="Talk to the model of a server instead, without PyTorch.")
@click.option("--token", envvar=TOKEN, help="What the server asks for; better given as $DUPLEX_TOKEN.")
@click.option("--input", "input_device", callback=_device, metavar="DEVICE", help="Microphone: number or part of name.")
@click.option("--output", "output_device", callback=_device, metavar="DEVICE", help="Loudspeaker, likewise.")
@click.option("--list-devices", is_flag=True, help="Tell which devices there are, and end.")
@click.option(
    "--echo-cancellation",
    type=click.Choice(["webrtc", "off"]),
    default="webrtc",
    show_default=True,
    help="off with headphones, or where the system does it.",
)
@click.option("--record", type=click.Path(path_type=Path), metavar="DIR", help="Record the conversation below DIR.")
@dialogue_options
def talk(  # noqa: PLR0917 -- click gives them by name
    server: str | None,
    token: str | None,
    input_device: "Device",
    output_device: "Device",
    list_devices: bool,
    echo_cancellation: Any,
    record: Path | None,
    load_options: LoadOptions,
    options: SessionOptions,
) -> int:
    """Talk to a model by the microphone and the loudspeaker of this machine.

    Keys: m mute, d devices, r record, q quit. Where standard output is no terminal, what is said comes in plain lines.
    A recording is a folder below DIR with the files of `duplex process`.

    \b
    Examples:
      duplex talk
      duplex talk --echo-cancellation off --record calls
      duplex talk --server https://talk.example.org --input headset --output headset
    """  # noqa: D301 -- \b is click's mark for lines that stay as they are
    if list_devices:
        _tell_devices()
        return 0
    _check(server, token)
    from duplex.extras import require  # noqa: PLC0415 -- `duplex --help` need not wait for it

    require("talk", "sounddevice", *(["textual"] if _on_terminal() else []), purpose="duplex talk")
    devices = (input_device, output_device)
    if server is not None:
        return _talk(_remote(server, token, options), devices, echo_cancellation, record, ())
    with _loaded(load_options, options) as model:
        hints = _hints(model.examples, builtin=load_options.model == "tiny")
        return _talk(_local(model, load_options, options), devices, echo_cancellation, record, hints)


def _hints(examples: Sequence[str], *, builtin: bool) -> tuple[str, ...]:
    """Return what is shown to somebody who does not know what to say."""
    if not examples:
        return ()
    known = "It knows little else (docs/built-in-model.md). " if builtin else ""
    said = (f"  {plain(example)}" for example in examples)
    return ("Say hello, or ask:", *said, f"{known}It hears you all the time; cut in when you like.")


def _check(server: str | None, token: str | None) -> None:
    """Check that options belong together.

    :raises UsageError: if not
    """
    context = click.get_current_context()
    local = (
        "model",
        "revision",
        "adapter",
        "backend",
        "device",
        "dtype",
        "quantize",
        "cache_dtype",
        "sessions",
        "deterministic",
    )
    given = [name for name in local if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE]
    if server is not None and given:
        name = given[0].replace("_", "-")
        raise UsageError(f"--{name} is for a model of this machine, and --server has its own; give one of them")
    if server is None and token and context.get_parameter_source("token") is click.core.ParameterSource.COMMANDLINE:
        raise UsageError("--token is for a server; give --server URL too")


def _on_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def _tell_devices() -> None:
    from duplex.transports import list_devices  # noqa: PLC0415

    devices = list_devices()
    if not devices:
        raise AudioDeviceError("there is no audio device here; connect one, or start the sound server")
    for device in devices:
        kinds = [
            *([f"microphone{' (default)' if device.is_default_input else ''}"] if device.inputs else []),
            *([f"loudspeaker{' (default)' if device.is_default_output else ''}"] if device.outputs else []),
        ]
        click.echo(plain(f"{device.index:>3}  {device.name}: {', '.join(kinds)}, {device.sample_rate:.0f} Hz"))


@contextmanager
def _loaded(load_options: LoadOptions, options: SessionOptions) -> Generator["Model"]:
    import duplex  # noqa: PLC0415
    from duplex.checkpoints import checkpoint  # noqa: PLC0415
    from duplex.engine.loading import check_beginning  # noqa: PLC0415

    click.echo(plain(f"duplex: loading {load_options.model} ..."), err=True)
    if options.instructions is not None or options.voice is not None:
        found = checkpoint.resolve(load_options.model, revision=load_options.revision, adapter=load_options.adapter)
        check_beginning(found, options)
    loading = load_options.load_arguments(sessions=1) | load_options.guided(options)
    with duplex.load(load_options.model, **loading) as model:
        yield model


@attrs.frozen
class _Kind:
    """What a local and a remote conversation differ in."""

    open_dialogue: "OpenDialogue"
    make_writer: Callable[[Path], Any]
    run: dict[str, Any]
    taps: bool


def _local(model: "Model", load_options: LoadOptions, options: SessionOptions) -> _Kind:
    import duplex  # noqa: PLC0415
    from duplex.process.plan import Recipe  # noqa: PLC0415
    from duplex.results.writer import ResultWriter  # noqa: PLC0415

    recipe = Recipe(
        model=model.name,
        revision=model.revision,
        fingerprint=model.fingerprint,
        adapter=model.adapter,
        options=options.with_defaults(attrs.evolve(model.defaults, seed=None)),
        settings=load_options.settings(),
    )
    run = recipe.as_json() | ({"products": dict(model.products)} if model.products else {})
    if options.seed is None:
        del run["seed"]  # the session draws one

    def open_dialogue(call: "Call") -> Any:
        return duplex.Conversation(model, call.line, options=options, recorder=call.recorder)

    return _Kind(open_dialogue, lambda folder: ResultWriter(folder, model.spec, model.tokenizer), run, taps=False)


def _remote(server: str, token: str | None, options: SessionOptions) -> _Kind:
    import duplex  # noqa: PLC0415
    from duplex.talk.remote_recording import RemoteWriter  # noqa: PLC0415

    # Checked before a screen is opened.
    duplex.connect(server, token=token, options=options)
    run = {"server": server, "options": attrs.asdict(options, filter=attrs.filters.exclude("seed"))}

    def open_dialogue(call: "Call") -> Any:
        return duplex.connect(server, call.line, token=token, options=options, queued=call.queued)

    return _Kind(open_dialogue, RemoteWriter, run, taps=True)


def _talk(kind: _Kind, devices: tuple["Device", "Device"], echo: Any, record: Path | None, hints: Any) -> int:
    from duplex.process.run_record import versions  # noqa: PLC0415
    from duplex.talk.call import Call  # noqa: PLC0415
    from duplex.talk.line import TalkLine  # noqa: PLC0415
    from duplex.talk.recording import Recorder  # noqa: PLC0415
    from duplex.transports import MicrophoneTransport  # noqa: PLC0415

    told: list[str] = []
    calls: list[Call] = []

    def notice(text: str) -> None:
        calls[0].notice(text) if calls else told.append(text)

    async def hold() -> int:
        make = partial(MicrophoneTransport, echo_cancellation=echo, on_notice=notice)
        line = TalkLine(make, *devices)
        recorder = Recorder(
            record or RECORDINGS, kind.make_writer, {"input": "microphone", **kind.run, "versions": versions()}
        )
        line.tap = recorder if kind.taps else None
        call = Call(kind.open_dialogue, line, recorder)
        calls.append(call)
        for text in told:
            call.notice(text)
        status = await _show(call, hints, record=record is not None)
        for folder in recorder.finished:
            click.echo(plain(f"recorded: {folder}"))
        if call.error is not None:
            raise call.error
        return status

    return anyio.run(hold)


async def _show(call: "Call", hints: Any, *, record: bool) -> int:
    if _on_terminal():
        from duplex.talk.screen import show_screen  # noqa: PLC0415
        from duplex.transports import list_devices  # noqa: PLC0415

        return await show_screen(call, hints=hints, devices=list_devices, record=record)
    from duplex.talk.lines import show_lines  # noqa: PLC0415

    return await show_lines(
        call,
        hints=hints,
        record=record,
        say=click.echo,
        note=lambda text: click.echo(f"duplex: {plain(one_line(text))}", err=True),
    )
