"""``duplex encode`` and ``duplex decode``: Mimi alone."""

from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import click

from duplex.atomic import output_error
from duplex.cli.options import LoadOptions, codec_options, user_channel_option
from duplex.cli.progress import FileBars
from duplex.cli.text import plain
from duplex.errors import UsageError

if TYPE_CHECKING:
    from duplex.codec import Codec

__all__ = ["decode", "encode"]


@click.command(short_help="Turn a recording into a file of codes.")
@click.argument("recording", metavar="IN")
@click.option("--out", type=click.Path(path_type=Path), metavar="F.safetensors", help="Default: IN's name here.")
@user_channel_option
@codec_options
def encode(recording: str, out: Path | None, user_channel: Any, load_options: LoadOptions) -> None:
    """Turn a recording into codes, with the model's codec alone.

    The file holds `codes`, int64 [codebooks, frames]. IN may be - for the standard input, or a pipe.

    \b
    Example:
      duplex encode question.wav --out question.safetensors
    """  # noqa: D301 -- \b is click's mark for lines that stay as they are
    from duplex.audio.decoding import Decoder  # noqa: PLC0415
    from duplex.process import Recording, encode_file, find_recordings, spooled  # noqa: PLC0415 -- slow to import
    from duplex.transports import probe_duration  # noqa: PLC0415

    given = find_recordings([recording])[0] if recording == "-" else Recording(Path(recording), PurePath(recording))
    out = _chosen(out, f"{given.path.stem}.safetensors")
    with spooled([given]) as (source,):
        Decoder(source.path, 24000, user_channel, content=source.content).close()  # before a model is loaded
        duration = probe_duration(source.content)
        codec = _load(load_options)
        with FileBars() as bars:
            frames = encode_file(
                codec,
                source.path,
                out,
                user_channel=user_channel,
                progress=lambda seconds: bars.update(str(source.path), seconds, duration),
                content=source.content,
            )
    click.echo(plain(f"{source.path} -> {out}"))
    click.echo(f"  {frames} frames of {codec.spec.codebooks} codes, {frames / codec.spec.frame_rate:.2f} s")


@click.command(short_help="Turn a file of codes into sound.")
@click.argument("codes", metavar="F.safetensors", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="OUT.wav", help="Default: the file's name, .decoded.wav."
)
@codec_options
def decode(codes: Path, out: Path | None, load_options: LoadOptions) -> None:
    """Turn a file of codes into a 16-bit wav file, with the model's codec alone.

    \b
    Example:
      duplex decode question.safetensors --out question-decoded.wav
    """  # noqa: D301 -- \b is click's mark for lines that stay as they are
    from duplex.process import decode_file  # noqa: PLC0415 -- `duplex --help` need not wait for it
    from duplex.process.codes import read_codes_header  # noqa: PLC0415

    out = _chosen(out, f"{codes.stem}.decoded.wav")
    _, frames = read_codes_header(codes)  # complains before a model is loaded
    codec = _load(load_options)
    with FileBars() as bars:
        decode_file(
            codec,
            codes,
            out,
            progress=lambda seconds: bars.update(str(codes), seconds, frames / codec.spec.frame_rate),
        )
    click.echo(plain(f"{codes} -> {out}"))
    click.echo(f"  {frames / codec.spec.frame_rate:.2f} s at {codec.spec.sample_rate} Hz")


def _chosen(out: Path | None, name: str) -> Path:
    """Return where the result goes; a name that nobody gave must not replace anything."""
    if out is not None:
        return out
    try:
        if Path(name).exists():
            raise UsageError(f"{name} is there already; name the result with --out")
    except OSError as error:  # the name of the input with another suffix can be too long
        raise output_error(Path(name), error) from None
    return Path(name)


def _load(load_options: LoadOptions) -> "Codec":
    import duplex  # noqa: PLC0415

    return duplex.load_codec(
        load_options.model, backend=load_options.backend, device=load_options.device, revision=load_options.revision
    )
