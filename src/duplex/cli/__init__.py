"""The command ``duplex``: arguments in, library calls, text out.

Results go to standard output, everything else to standard error. Exit status 0 is success, 1 is for what failed, 2 for
wrong use, 130 for Ctrl-C. An error is one line that says what to do; ``--debug`` adds where it came from.
"""

import contextlib
import errno
import io
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

import duplex
from duplex.atomic import output_error
from duplex.cli import (
    bench,
    codec,
    convert,
    doctor,
    evaluate,
    measure,
    models,
    plot,
    process,
    recordings,
    say,
    score,
    serve,
    talk,
    train,
    transcribe,
)
from duplex.cli.options import debug_option
from duplex.cli.text import one_line, print_error, report_error, truncate
from duplex.errors import DuplexError, UsageError

__all__ = ["cli", "main"]

FAILED, WRONG_USE, INTERRUPTED = 1, 2, 130
LONGEST_SHOWN = 100
"""Characters of a name that is too long."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@debug_option
@click.version_option(duplex.__version__, prog_name="duplex")
def cli() -> None:
    """Full-duplex speech dialogue with models that listen and speak at the same time.

    \b
    Talk to it, or try it with a recording of yours:
      duplex talk
      duplex process question.wav --out results
    and see what is installed and what can be loaded:
      duplex doctor
      duplex models
    """  # noqa: D301 -- \b is click's mark for lines that stay as they are


COMMANDS = (
    process.process,
    transcribe.transcribe,
    measure.measure,
    score.score,
    evaluate.evaluate,
    say.say,
    serve.serve,
    recordings.recordings,
    talk.talk,
    plot.plot,
    codec.encode,
    codec.decode,
    models.models,
    models.info,
    convert.convert,
    bench.bench,
    train.train,
    doctor.doctor,
)
for _command in COMMANDS:
    cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command with ``arguments``, those of the process if left out, and exit with its status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # Also for what goes wrong before options are read. After "--" it is the name of a file.
    debug = "--debug" in (given[: given.index("--")] if "--" in given else given)
    _prepare(debug=debug)
    sys.exit(_run(given, debug=debug))


def _prepare(*, debug: bool) -> None:
    """Have three standard streams, and keep the libraries underneath from adding lines of their own."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by who started this
            # Opened for good, in this order: the lowest descriptor that is free is the stream's own, which no file of
            # results may come to have.
            null = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(null, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    streams: tuple[Any, ...] = (sys.stdout, sys.stderr)
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a letter shows a question mark
    if debug:
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
        return
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # read when the hub's client is imported
    # asyncio's: a process that has been told to end may end before it is waited for, which is no matter
    for name in ("huggingface_hub", "matplotlib", "asyncio"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _run(arguments: list[str], *, debug: bool) -> int:
    """Run a command; return its exit status."""
    status: Any = FAILED
    try:
        # Not click's own main, which prints an empty line at Ctrl-C.
        with cli.make_context("duplex", arguments, obj=debug) as context:
            status = cli.invoke(context) or 0
        sys.stdout.flush()
    except click.exceptions.Exit as ended:
        status = ended.exit_code
    except click.ClickException as error:
        status = _complain(error)
    except (KeyboardInterrupt, click.Abort):
        if sys.stderr.isatty():
            click.echo(err=True)  # after the ^C
        print_error("interrupted; run it again to go on with what is not finished")
        status = INTERRUPTED
    except BrokenPipeError:  # whoever read the output has read enough
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        report_error(_foreseen(error) or error, debug=debug)
    except Exception as error:  # noqa: BLE001 -- no traceback without --debug
        report_error(error, debug=debug)
        status = WRONG_USE if isinstance(error, UsageError) else FAILED
    return status


def _foreseen(error: OSError) -> DuplexError | None:
    """Return what a system's error means that no file's own error has told."""
    if error.errno == errno.ENOSPC:  # the standard output was sent to a full disk
        return output_error(Path("the standard output"), error)
    if error.errno == errno.ENAMETOOLONG:
        return UsageError(f"{truncate(str(error.filename), LONGEST_SHOWN)} is too long a name; give a shorter one")
    return None


def _complain(error: click.ClickException) -> int:
    """Print one line for what click found; return the exit status."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return WRONG_USE
    message = one_line(error.format_message())
    if not isinstance(error, click.UsageError):
        print_error(message)
        return FAILED
    print_error(f"{message} (see `{error.ctx.command_path} --help`)" if error.ctx else message)
    return WRONG_USE
