"""``duplex transcribe``: the words of recordings."""

import contextlib
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import click

from duplex.cli.options import LoadOptions, loading_options, user_channel_option
from duplex.cli.process import SIDE_BY_SIDE, SMALL, tell_passed_over
from duplex.cli.progress import FileBars
from duplex.cli.text import plain, report_error
from duplex.errors import UsageError

if TYPE_CHECKING:
    from duplex.engine.model import Model
    from duplex.process import Progress, Result
    from duplex.transcription.whisper import WhisperTranscriber

__all__ = ["transcribe"]


@click.command(short_help="Write down what is said in recordings.")
@click.argument("inputs", nargs=-1, required=True, metavar="IN...")
@click.option("--out", type=click.Path(), help="Folder for the transcripts; left out, they are printed.")
@click.option(
    "--format", "formats", metavar="json,srt,vtt,text", help="One or several. Default: json with --out, or text."
)
@click.option("--transcriber", metavar="whisper:NAME", help="Whisper instead of a model; NAME may be a folder.")
@click.option("--language", help="Spoken in the recordings, as in en; Whisper guesses it if left out.")
@user_channel_option
@click.option("--force", is_flag=True, help="Transcribe again what is finished; replace other results.")
@loading_options
def transcribe(load_options: LoadOptions, **given: Any) -> int:
    """Write down what is said in recordings, with a time for each word.

    IN is what `duplex process` takes. --model is a model that recognises speech; --transcriber whisper:NAME takes
    Whisper instead. With --out, each recording gets a folder with user_transcript.json, and .srt, .vtt and .txt as
    asked; what is finished already is skipped. Without it, transcripts are printed.

    \b
    Examples:
      duplex transcribe question.wav --model kyutai/stt-1b-en_fr
      duplex transcribe recordings --out transcripts --format json,srt --model kyutai/stt-1b-en_fr
      duplex transcribe question.wav --transcriber whisper:small.en
    """  # noqa: D301 -- \b is click's mark for lines that stay as they are
    from duplex.process import find_recordings  # noqa: PLC0415 -- `duplex --help` need not wait for it
    from duplex.process.transcription import checked_formats  # noqa: PLC0415

    out: str | None = given["out"]
    named = (given["formats"] or ("text" if out is None else "json")).split(",")
    formats = checked_formats([name.strip() for name in named])
    if out is None and len(formats) > 1:
        raise UsageError("several formats cannot be printed one after the other; give --out, or one format")
    passed_over: list[Path] = []
    recordings = find_recordings(given["inputs"], out, passed_over=passed_over.append)
    tell_passed_over(passed_over)
    with contextlib.ExitStack() as stack:
        recognizer = stack.enter_context(_loaded(load_options, given, len(recordings)))
        folder = out or stack.enter_context(tempfile.TemporaryDirectory())
        report = _Report(printed=None if out is not None else formats[0])
        _carry_out(recognizer, folder, formats, given, report)
    return 1 if report.failed else 0


@contextlib.contextmanager
def _loaded(
    load_options: LoadOptions, given: dict[str, Any], recordings: int
) -> "Generator[Model | WhisperTranscriber]":
    import duplex  # noqa: PLC0415
    from duplex.checkpoints import checkpoint  # noqa: PLC0415
    from duplex.transcription.loading import WHISPER, check_recognizer, load_whisper  # noqa: PLC0415

    transcriber: str | None = given["transcriber"]
    if transcriber is not None:
        if not transcriber.startswith(WHISPER):
            raise UsageError(f"--transcriber is {transcriber!r}; give whisper:NAME, or a recognition model as --model")
        with load_whisper(transcriber, language=given["language"]) as whisper:
            yield whisper
        return
    if given["language"] is not None:
        raise UsageError("--language is for --transcriber whisper:NAME; a recognition model takes none")
    check_recognizer(load_options.model, revision=load_options.revision)
    found = checkpoint.resolve(load_options.model, revision=load_options.revision)
    small = found.weights is not None and found.weights.stat().st_size < SMALL
    sessions = load_options.sessions or min(recordings, SIDE_BY_SIDE if small else 1)
    loading = load_options.load_arguments(sessions) | dict[str, Any](revision=found.revision)
    with duplex.load(load_options.model, **loading) as model:
        yield model


def _carry_out(
    recognizer: "Model | WhisperTranscriber", out: str, formats: Any, given: dict[str, Any], report: "_Report"
) -> None:
    from duplex.process import transcribe as run  # noqa: PLC0415

    bars = FileBars()

    def progress(news: "Progress") -> None:
        bars.update(str(news.recording.path), news.seconds, news.duration, over=news.result is not None)
        bars.update_total(news.done, news.total)

    async def work() -> "list[Result]":
        return await run(
            recognizer,
            given["inputs"],
            out,
            formats=formats,
            user_channel=given["user_channel"],
            force=given["force"],
            progress=progress,
        )

    with bars:
        results = anyio.run(work)
    for result in results:
        report.report(result, several=len(results) > 1)


class _Report:
    """Tells the user what became of each recording; ``printed`` is the format of what is printed, if anything is."""

    def __init__(self, printed: Any) -> None:
        self.failed = 0
        self._printed = printed

    def report(self, result: "Result", *, several: bool) -> None:
        from duplex.process.transcription import transcript_name  # noqa: PLC0415

        name = plain(str(result.recording.path))
        if result.error is not None:
            self.failed += 1
            report_error(result.error, debug=bool(click.get_current_context().find_root().obj))
            return
        if self._printed is None:
            finished = " (finished before)" if result.status == "skipped" else ""
            click.echo(plain(f"{name} -> {result.folder}{finished}"))
            click.echo(f"  {plain(result.user_text) or '(no words)'}")
        else:
            if several:
                click.echo(f"{name}:", err=True)
            text = (result.folder / transcript_name(self._printed)).read_text(encoding="utf-8")
            click.echo("\n".join(plain(line) for line in text.splitlines()))
        if result.cut_short:
            click.echo(
                f"duplex: note: {name} was cut short; what is there was transcribed. Get the whole file", err=True
            )
