"""The options that commands have in common, gathered into what the library takes."""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import attrs
import click

from duplex.errors import UsageError
from duplex.options import MAX_SESSIONS, Backend, CacheDtype, Dtype, Quantization, SessionOptions

__all__ = [
    "LoadOptions",
    "Option",
    "adapter_option",
    "backend_option",
    "codec_options",
    "debug_option",
    "device_option",
    "dialogue_options",
    "loading_options",
    "many_models_options",
    "say_options",
    "transcriber_option",
    "user_channel_option",
]

_NAMED = re.compile(r"[\w.-]+=.")
"""The beginning of an adapter with a name for callers."""
F = TypeVar("F", bound=Callable[..., Any])


class Option(Protocol):
    """Adds an option to the command that it decorates."""

    def __call__(self, command: F, /) -> F:
        """Return the command with the option."""
        ...


@attrs.frozen(kw_only=True)
class LoadOptions:
    """Which model is to be loaded, and how; ``sessions`` is ``None`` if the command shall choose."""

    model: str
    revision: str | None
    adapter: str | None = None
    adapters: Mapping[str, str] | None = None
    """Those that sessions may choose, by name."""
    backend: Backend
    device: str
    dtype: Dtype = "auto"
    quantize: Quantization | None = None
    cache_dtype: CacheDtype = "auto"
    sessions: int | None = None
    deterministic: bool = False

    def load_arguments(self, sessions: int) -> dict[str, Any]:
        """Return the arguments of :func:`duplex.load` beside the name; ``sessions`` if none were asked for."""
        given = attrs.asdict(self, filter=attrs.filters.exclude("model"))
        return {**given, "sessions": self.sessions or sessions}

    @staticmethod
    def guided(options: SessionOptions) -> dict[str, Any]:
        """Return what a model must be loaded with for these options."""
        return {} if options.guidance is None else {"guidance": options.guidance != 1}

    def settings(self) -> dict[str, Any]:
        """Return what may change the tokens of a dialogue."""
        return attrs.asdict(self, filter=attrs.filters.exclude("model", "revision", "adapter", "adapters", "sessions"))


backend_option: Option = click.option(
    "--backend", type=click.Choice(["auto", "torch", "mlx"]), default="auto", show_default=True, help="What runs it."
)
device_option: Option = click.option(
    "--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, gpu (Apple's), ..."
)
PLACE = (
    click.option("--revision", help="A branch, tag or commit of a hub repository."),
    backend_option,
    device_option,
)
CODEC = (
    click.option("--model", default="tiny", show_default=True, help="A built-in name, a folder, or owner/name."),
    *PLACE,
)


class _ModelName(click.ParamType[str]):
    """A model's name; several in an environment variable stand between commas, as paths have spaces."""

    name = "text"
    envvar_list_splitter = ","


MANY_MODELS = (
    click.option(
        "--model",
        type=_ModelName(),
        multiple=True,
        default=("tiny",),
        show_default=True,
        help="A built-in name, a folder, or owner/name. May be given again: callers choose.",
    ),
    *PLACE,
)
adapter_option: Option = click.option(
    "--adapter", help="A LoRA for the model: a .safetensors file, a folder, or owner/name; instead of its own."
)
adapters_option: Option = click.option(
    "--adapter",
    type=_ModelName(),
    multiple=True,
    metavar="[NAME=]PATH",
    help="A LoRA for the model; with a name, one that callers may choose. Such may be given again.",
)
LOADING = (
    click.option(
        "--dtype",
        type=click.Choice(["auto", "float32", "bfloat16"]),
        default="auto",
        show_default=True,
        help="Type of the weights; auto is bfloat16 on a GPU.",
    ),
    click.option("--quantize", type=click.Choice(["int8", "fp8", "int4"]), help="Smaller weights; fp8 on recent GPUs."),
    click.option(
        "--cache-dtype",
        type=click.Choice(["auto", "int8"]),
        default="auto",
        show_default=True,
        help="Type of what is remembered; int8 takes half of bfloat16.",
    ),
    click.option("--sessions", type=click.IntRange(1, MAX_SESSIONS), help="How many conversations run side by side."),
    click.option("--deterministic", is_flag=True, help="Tokens do not depend on what runs beside; slower."),
)
SAMPLING = (
    click.option("--seed", type=click.IntRange(0, 2**64 - 1), help="Of the sampling noise; 0 for recordings."),
    click.option("--greedy", is_flag=True, help="Always the likeliest token; no noise."),
    click.option("--temperature", type=float, help="Of the agent's audio; the checkpoint's if left out."),
    click.option("--text-temperature", type=float, help="Of the agent's text."),
    click.option("--top-k", type=int, help="Audio tokens to choose among; 0 is all of them."),
    click.option("--text-top-k", type=int, help="Text tokens to choose among; 0 is all of them."),
    click.option("--guidance", type=float, help="Of a model that takes conditions, such as Hibiki; 1 is without."),
    click.option(
        "--padding-bonus",
        type=float,
        help="Above 0 the agent is slower to begin, and speaks more slowly; below 0 faster. Usually -2 to 2.",
    ),
)

PERSONA = (
    click.option("--instructions", metavar="TEXT", help="A persona in words, for models that take one."),
    click.option("--voice", metavar="NAME|FILE", help="A voice of the checkpoint, or a recording, for such models."),
)

SAYING = (
    click.option("--codebooks", type=int, help="So many of the model's alone: coarser and faster; all if left out."),
    click.option("--padding-between", type=int, help="Frames between two words at least; 1 if left out."),
)

# Looked for by `main` itself, so that it also holds for errors in the other options.
debug_option: Option = click.option("--debug", is_flag=True, expose_value=False, help="Show where an error comes from.")
user_channel_option: Option = click.option(
    "--user-channel",
    type=click.Choice(["left", "right", "mix"]),
    default="mix",
    show_default=True,
    help="Which channel of a recording is the user.",
)

transcriber_option: Option = click.option(
    "--transcriber",
    metavar="whisper:NAME|MODEL",
    help="Give the user's words too: by Whisper, or by a model that recognises speech.",
)


def codec_options(command: F) -> F:
    """Add the options of what needs Mimi alone; the command gets them as ``load_options``."""
    return _gathered(command, CODEC, lambda values: {"load_options": _take(LoadOptions, values)})


def loading_options(command: F) -> F:
    """Add the options of what loads a dialogue model for others to use; the command gets ``load_options``."""
    return _gathered(
        command, (*CODEC, adapter_option, *LOADING), lambda values: {"load_options": _take(LoadOptions, values)}
    )


def many_models_options(command: F) -> F:
    """Add the options of what loads one model or several; the command gets ``load_options``, a list."""

    def gather(values: dict[str, Any]) -> dict[str, Any]:
        names = values.pop("model")
        each = _take(LoadOptions, {**values, "model": "", **_adapters(values["adapter"])})
        for field in attrs.fields(LoadOptions):
            values.pop(field.name, None)
        return {"load_options": [attrs.evolve(each, model=name) for name in names]}

    return _gathered(command, (*MANY_MODELS, adapters_option, *LOADING), gather)


def _adapters(given: Sequence[str]) -> dict[str, Any]:
    """Return the adapter of all sessions, and those that sessions may choose.

    :raises UsageError: if several are for all
    """
    named = [each.partition("=") for each in given if _NAMED.match(each)]
    others = [each for each in given if not _NAMED.match(each)]
    if len(others) > 1 or len({name for name, _, _ in named}) < len(named):
        raise UsageError(
            "a model has one adapter for all its sessions, and each name stands for one; give others as --adapter "
            "NAME=PATH, for callers to choose"
        )
    return {"adapter": next(iter(others), None), "adapters": {name: path for name, _, path in named} or None}


def dialogue_options(command: F) -> F:
    """Add the options of what runs a dialogue model; the command gets ``load_options`` and ``options``."""
    return _gathered(
        command,
        (*CODEC, adapter_option, *LOADING, *SAMPLING, *PERSONA),
        lambda values: {"load_options": _take(LoadOptions, values), "options": _take(SessionOptions, values)},
    )


def say_options(command: F) -> F:
    """Add the options of what says a text; the command gets ``load_options`` and ``options``."""
    return _gathered(
        command,
        (*CODEC, adapter_option, *LOADING, *SAMPLING, *SAYING),
        lambda values: {"load_options": _take(LoadOptions, values), "options": _take(SessionOptions, values)},
    )


def _gathered(command: F, options: tuple[Any, ...], gather: Callable[[dict[str, Any]], dict[str, Any]]) -> F:
    @functools.wraps(command)
    def gathering(**values: Any) -> Any:
        return command(**gather(values), **values)

    decorated: Any = gathering
    for option in reversed((*options, debug_option)):
        decorated = option(decorated)
    return decorated


def _take(kind: type[Any], values: dict[str, Any]) -> Any:
    """Make ``kind`` of the values that are its own, and take them out."""
    names = [field.name for field in attrs.fields(kind) if field.name in values]
    return kind(**{name: values.pop(name) for name in names})
