"""What a command in Kaldi's ``wav.scp`` would read. None is run, and few are understood.

- ``sph2pipe -c CHANNEL FILE |``, whatever the form of its output
- ``ffmpeg -i FILE -map_channel 0.0.CHANNEL pipe:1 |`` as lhotse writes it, by itself or behind ``sph2pipe``

Filters and stretches are not understood; nothing depends on a rate.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path

from duplex.errors import UsageError

__all__ = ["file_of_command"]

_SPHERE = (".sph", ".wav", ".nist")
_SIDES = {"1": 0, "2": 1}
_MAPPED = {"0.0.0": 0, "0.0.1": 1}
_HARMLESS = frozenset(("-threads", "-i", "-ar", "-map_channel", "-f"))
_IN, _OUT = "pipe:0", "pipe:1"


def file_of_command(command: str) -> tuple[str, int | None]:
    """Return the file that a command reads, and the channel that it takes of it, from 0 on; ``None`` for all.

    :raises UsageError: if it is another command
    """
    try:
        words = shlex.split(command.removesuffix("|"))
    except ValueError:
        words = []
    stages = _split(words)
    if len(stages) == 2 and _of_ffmpeg(stages[1]) == (_IN, None):  # noqa: PLR2004 -- a reader, and what changes rates
        stages = stages[:1]
    found = None
    if len(stages) == 1:
        found = _of_sph2pipe(stages[0]) or _of_ffmpeg(stages[0])
    if found is None or found[0] == _IN:
        raise UsageError("a command, and commands are not run; write its output to a file and name that")
    return found


def _split(words: Sequence[str]) -> list[list[str]]:
    stages: list[list[str]] = [[]]
    for word in words:
        if word == "|":
            stages.append([])
        else:
            stages[-1].append(word)
    return stages


def _of_sph2pipe(words: Sequence[str]) -> tuple[str, int | None] | None:
    files = [word for word in words[1:] if word.lower().endswith(_SPHERE)]
    if not words or Path(words[0]).name != "sph2pipe" or len(files) != 1:
        return None
    chosen = words[words.index("-c") + 1] if "-c" in words[:-1] else None
    return files[0], None if chosen is None else _SIDES.get(chosen)


def _of_ffmpeg(words: Sequence[str]) -> tuple[str, int | None] | None:
    if not words or Path(words[0]).name != "ffmpeg" or words[-1] != _OUT:
        return None
    options = dict(zip(words[1:-1:2], words[2:-1:2], strict=False))
    channel = options.get("-map_channel")
    if len(words) % 2 or "-i" not in options or not options.keys() <= _HARMLESS:
        return None
    if channel is not None and channel not in _MAPPED:
        return None
    return options["-i"], None if channel is None else _MAPPED[channel]
