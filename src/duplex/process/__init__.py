"""Recorded dialogues: many files through one model, and a folder of results for each.

    import anyio, duplex
    from duplex.process import process

    async def main() -> None:
        with duplex.load("tiny", sessions=4) as model:
            for result in await process(model, ["recordings"], "out"):
                print(result.folder, result.text)

    anyio.run(main)

:func:`process` does it all. Its steps can be taken one by one, so that a caller learns what there is to do before a
model is loaded: :func:`find_recordings`, then :func:`spooled` around :meth:`Plan.make` and :func:`carry_out`.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
