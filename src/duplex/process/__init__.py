"""Recorded dialogues: many files through one model, and a folder of results for each.

    import anyio, duplex
    from duplex.process import process

    async def main() -> None:
        with duplex.load("tiny", sessions=4) as model:
            for result in await process(model, ["recordings"], "out"):
                print(result.folder, result.text)

    anyio.run(main)

:func:`process` does it all. Its steps can be taken one by one, so that a caller learns what there is to do before a
model is loaded: :func:`find_recordings`, then :meth:`Plan.make`, then :func:`carry_out`.
"""

from duplex.process.codes import decode_file, encode_file
from duplex.process.plan import Plan, Recipe, Result, Task
from duplex.process.recordings import Recording, find_recordings
from duplex.process.run import Progress, carry_out, process

__all__ = [
    "Plan",
    "Progress",
    "Recipe",
    "Recording",
    "Result",
    "Task",
    "carry_out",
    "decode_file",
    "encode_file",
    "find_recordings",
    "process",
]
