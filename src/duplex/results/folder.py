"""A folder of results while it is written: one run's alone, and without what others have left."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from duplex.atomic import Hold, clear_remains, make_folder, output_error
from duplex.errors import OutputError
from duplex.results.files import DIALOGUE, RESULT_FILES, RUN, STATE, USER_FILES, read_run

__all__ = ["claim", "replace"]

ALL_FILES = (*RESULT_FILES, *USER_FILES, STATE)


def claim(folder: Path) -> Hold:
    """Make a folder and hold it against other runs; the unfinished files of one that was killed are removed.

    :raises OutputError: if it cannot be made, or another run writes into it
    """
    make_folder(folder)
    try:
        hold = Hold(folder)
    except BlockingIOError:
        raise OutputError(
            f"{folder} is being written by another run; wait for its end, or choose another --out"
        ) from None
    except OSError as error:
        raise output_error(folder, error) from None
    for name in ALL_FILES:
        clear_remains(folder / name)
    return hold


def replace(folder: Path, own: Collection[str]) -> None:
    """Take back that the results in a folder are complete, and remove those that the new ones, ``own``, do not replace.

    They would be taken for the new ones'. What a run of another kind has written, with voices or without, stays.

    :raises OSError: if the system refuses
    """
    run = read_run(folder)
    (folder / RUN).unlink(missing_ok=True)
    files: Any = None if run is None else run.get("files")
    before = [name for name in ALL_FILES if isinstance(files, list) and name in files]
    if (DIALOGUE in before) == (DIALOGUE in own):
        for name in set(before).difference(own):
            (folder / name).unlink(missing_ok=True)
