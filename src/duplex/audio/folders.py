"""What lies in a folder: files, and recordings among them, as far as the suffix of a name tells.

Links to folders are followed, after all that is really there; a folder that several ways lead to, be it in a circle, is
searched once. What is hidden is not looked at.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["AUDIO_SUFFIXES", "find_audio", "walk"]

_SOUND = (
    *("aac", "ac3", "adts", "aif", "aifc", "aiff", "amr", "ape", "au", "awb", "bwf", "caf", "dts", "eac3", "flac"),
    *("m4a", "m4b", "mka", "mp2", "mp3", "mpc", "mpga", "nist", "oga", "ogg", "opus", "ra", "rf64", "snd", "sph"),
    *("spx", "tak", "tta", "voc", "w64", "wav", "wave", "weba", "wma", "wv"),
)
_VIDEO = (
    *("3g2", "3gp", "asf", "avi", "f4v", "flv", "m2ts", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "mts", "mxf"),
    *("ogv", "ogx", "qt", "rm", "vob", "webm", "wmv"),
)
AUDIO_SUFFIXES = frozenset(f".{name}" for name in (*_SOUND, *_VIDEO))
"""Lower-case suffixes of the files that are taken for recordings, video included, when a folder is searched."""


def find_audio(
    folder: Path,
    *,
    passed_over: Callable[[Path], None] | None = None,
    leave_out: Callable[[Path], bool] | None = None,
) -> Iterator[Path]:
    """Yield the recordings in a folder and below, in no order.

    ``passed_over`` is told each file that has another suffix, and each folder that may not be looked into. Files and
    folders for which ``leave_out`` is true are no business of this search, and are not told.
    """

    def tell(path: Path) -> None:
        if passed_over is not None:
            passed_over(path)

    for above, names in walk(folder, unsearched=tell, leave_out=leave_out):
        for path in (above / name for name in names):
            if path.suffix.lower() in AUDIO_SUFFIXES:
                yield path
            else:
                tell(path)


def walk(
    folder: Path,
    *,
    unsearched: Callable[[Path], None] | None = None,
    leave_out: Callable[[Path], bool] | None = None,
) -> Iterator[tuple[Path, list[str]]]:
    """Yield a folder and those below, each with the names of the files in it, in no order.

    What vanishes meanwhile is as if it had never been there: ``Path.rglob`` raises for it, and whoever catches that has
    lost all the others too. ``unsearched`` is told each folder that could not be looked into, be it because it is gone.
    """

    def refused(error: OSError) -> None:
        if unsearched is not None:
            unsearched(Path(error.filename))

    searched: set[str] = set()
    waiting = [folder]
    while waiting:
        for parent, folders, names in os.walk(waiting.pop(0), onerror=refused):
            place = os.path.realpath(parent)
            if place in searched:
                folders.clear()
                continue
            searched.add(place)
            above = Path(parent)
            folders[:] = [name for name in folders if not _is_left_out(above / name, leave_out)]
            waiting += [above / name for name in folders if os.path.islink(above / name)]  # noqa: PTH114 -- pathlib's raises where nothing may be asked
            yield above, [name for name in names if not _is_left_out(above / name, leave_out)]


def _is_left_out(path: Path, leave_out: Callable[[Path], bool] | None) -> bool:
    return path.name.startswith(".") or (leave_out is not None and leave_out(path))
