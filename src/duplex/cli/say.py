"""``duplex say``: a text, spoken by a model of speech synthesis."""

import sys
from pathlib import Path

import anyio
import click

from duplex.cli.options import LoadOptions, say_options
from duplex.cli.text import plain
from duplex.errors import UsageError
from duplex.options import SessionOptions

__all__ = ["say"]


@click.command(short_help="Say a text, with a model of speech synthesis.")
@click.argument("text", required=False)
@click.option("--text-file", type=click.Path(path_type=Path), metavar="FILE", help="The text; - is standard input.")
@click.option(
    "--voice",
    "voices",
    multiple=True,
    metavar="NAME|FILE",
    help="A voice of the checkpoint, or a file. May be given again: for a dialogue, of whose turns each is a line.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), default="speech.wav", show_default=True, metavar="OUT.wav", help="Result."
)
@say_options
def say(
    text: str | None,
    text_file: Path | None,
    voices: tuple[str, ...],
    out: Path,
    load_options: LoadOptions,
    options: SessionOptions,
) -> None:
    """Write a text as speech, to a 16-bit wav file, and print when each word is said.

    \b
    Examples:
      duplex say "Hello." --model kyutai/tts-1.6b-en_fr --voice expresso/ex01.wav --out hello.wav
      duplex say --text-file dialogue.txt --voice her --voice him --model kyutai/tts-1.6b-en_fr
      duplex say "In my voice." --voice recording.wav --model kyutai/tts-0.75b-en-public
    """  # noqa: D301 -- \b is click's mark for lines that stay as they are
    said = _given(text, text_file)
    if not said.strip():
        raise UsageError("there is nothing to say; give a text with a word in it")
    _check_voices(load_options, voices)
    anyio.run(_say, said, voices, out, load_options, options)


def _check_voices(load_options: LoadOptions, voices: tuple[str, ...]) -> None:
    """Look for the voices before a model is loaded, which takes a while.

    :raises UsageError: if one is not there
    """
    if not voices:
        return
    from duplex.checkpoints.sources import resolve_source  # noqa: PLC0415 -- `duplex --help` need not wait for it
    from duplex.checkpoints.voices import Voices  # noqa: PLC0415
    from duplex.prompting.voices import find_speaker  # noqa: PLC0415

    _, source = resolve_source(load_options.model, load_options.revision, progress=False)
    for voice in voices:
        find_speaker(Voices(source), voice)


async def _say(
    text: str, voices: tuple[str, ...], out: Path, load_options: LoadOptions, options: SessionOptions
) -> None:
    import duplex  # noqa: PLC0415 -- `duplex --help` need not wait for it
    from duplex.audio.wav import WavWriter  # noqa: PLC0415

    turns = [line for line in text.splitlines() if line.strip()] if len(voices) > 1 else text
    loading = load_options.load_arguments(sessions=1) | load_options.guided(options)
    with duplex.load(load_options.model, **loading) as model:
        speaker = duplex.Speaker(model, voice=list[str | Path](voices), options=options)
        spec, frames = model.spec, 0
        with WavWriter(out, channels=1, sample_rate=spec.sample_rate, synthetic="all") as writer:
            async with speaker:
                async for event in speaker.say(turns):
                    match event:
                        case duplex.AgentAudio(pcm=pcm):
                            writer.write(pcm)
                            frames += 1
                        case duplex.AgentText(text=word, at=at):
                            click.echo(plain(f"{at:8.2f}  {word}"))
                        case _:
                            pass
            writer.commit()
    click.echo(plain(f"{out}: {spec.seconds(frames):.2f} s"))


def _given(text: str | None, file: Path | None) -> str:
    """Return the text of the argument, or of a file."""
    if (text is None) == (file is None):
        raise UsageError("give the text, or --text-file (- for standard input), and not both")
    if file is None:
        return text or ""
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read ({error}); it is a text file in UTF-8") from None
