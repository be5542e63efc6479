"""``duplex transcribe``: the words of recordings."""

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import attrs
import click

from duplex.cli.options import LoadOptions, loading_options, user_channel_option
from duplex.cli.process import SIDE_BY_SIDE
from duplex.cli.progress import FileBars
from duplex.cli.text import plain, report_error, tell_passed_over
from duplex.errors import UsageError
from duplex.options import SessionOptions

if TYPE_CHECKING:
    from duplex.engine.model import Model
    from duplex.process import Plan, Progress, Recipe, Result
    from duplex.results.subtitles import TranscriptFormat
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
    from duplex.process import Plan, find_recordings, spooled  # noqa: PLC0415 -- `duplex --help` need not wait for it
    from duplex.process.transcription import checked_formats  # noqa: PLC0415

    out: str | None = given["out"]
    named = (given["formats"] or ("text" if out is None else "json")).split(",")
    formats = checked_formats([name.strip() for name in named])
    if out is None and len(formats) > 1:
        raise UsageError("several formats cannot be printed one after the other; give --out, or one format")
    passed_over: list[Path] = []
    recordings = find_recordings(given["inputs"], out, passed_over=passed_over.append)
    tell_passed_over(passed_over)
    recognizer = _chosen(load_options, given, formats)
    with spooled(recordings) as copied, tempfile.TemporaryDirectory() as unnamed:
        plan = Plan.make(copied, out or unnamed, recognizer.recipe, force=given["force"])
        results = _carry_out(recognizer, plan, formats) if plan.tasks else plan.in_order([])
        report = _Report(printed=None if out is not None else formats[0])
        for result in results:
            report.report(result, several=len(results) > 1)
    return 1 if report.failed else 0


@attrs.frozen
class _Recognizer:
    """What was asked for, which is loaded if there is something to do: ``load`` takes how many recordings there are."""

    recipe: "Recipe"
    load: "Callable[[int], AbstractContextManager[Model | WhisperTranscriber]]"


def _chosen(load_options: LoadOptions, given: dict[str, Any], formats: "list[TranscriptFormat]") -> _Recognizer:
    from duplex.process.transcription import whisper_recipe  # noqa: PLC0415
    from duplex.transcription.loading import WHISPER, load_whisper, whisper_name  # noqa: PLC0415

    transcriber, language = given["transcriber"], given["language"]
    if transcriber is not None:
        if not transcriber.startswith(WHISPER):
            raise UsageError(f"--transcriber is {transcriber!r}; give whisper:NAME, or a recognition model as --model")
        recipe = whisper_recipe(whisper_name(transcriber), language, formats, given["user_channel"])
        return _Recognizer(recipe, lambda _: load_whisper(transcriber, language=language))
    if language is not None:
        raise UsageError("--language is for --transcriber whisper:NAME; a recognition model takes none")
    return _chosen_model(load_options, given["user_channel"], formats)


def _chosen_model(load_options: LoadOptions, user_channel: Any, formats: "list[TranscriptFormat]") -> _Recognizer:
    import duplex  # noqa: PLC0415
    from duplex.checkpoints import checkpoint  # noqa: PLC0415
    from duplex.process import Recipe  # noqa: PLC0415
    from duplex.process.transcription import wanted  # noqa: PLC0415
    from duplex.transcription.loading import check_recognizer  # noqa: PLC0415

    check_recognizer(load_options.model, revision=load_options.revision)
    found = checkpoint.resolve(load_options.model, revision=load_options.revision, adapter=load_options.adapter)
    pinned = None if found.adapter is None else found.adapter.pinned
    recipe = Recipe(
        model=load_options.model,
        revision=found.revision,
        fingerprint=found.fingerprint,
        adapter=pinned,
        options=SessionOptions(seed=0).with_defaults(found.defaults),
        user_channel=user_channel,
        settings=wanted(formats) | load_options.settings(),
    )

    def load(recordings: int) -> "Model":
        given = load_options.load_arguments(min(recordings, SIDE_BY_SIDE if found.small else 1))
        # The commit: a branch may have moved since.
        given |= {"revision": found.revision, "adapter": pinned if load_options.adapter else None}
        return duplex.load(load_options.model, **given)

    return _Recognizer(recipe, load)


def _carry_out(recognizer: _Recognizer, plan: "Plan", formats: "list[TranscriptFormat]") -> "list[Result]":
    from duplex.process.transcription import transcribe_plan  # noqa: PLC0415

    bars = FileBars()

    def progress(news: "Progress") -> None:
        bars.update(str(news.recording.path), news.seconds, news.duration, over=news.result is not None)
        bars.update_total(news.done, news.total)

    with recognizer.load(len(plan.tasks)) as loaded, bars:
        return anyio.run(lambda: transcribe_plan(loaded, plan, formats, progress=progress))


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
