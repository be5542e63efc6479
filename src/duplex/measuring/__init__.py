"""Recorded dialogues of two people, one a channel: who holds the floor, and how it passes; without a model or PyTorch.

    import anyio
    from duplex.measuring import measure

    async def main() -> None:
        for result in await measure(["calls"], "measures"):
            print(result.source.name, result.summary)

    anyio.run(main)

:func:`measure` does it all, for files. :func:`measure_turns` are the definitions alone, for times from anywhere;
:func:`measure_audio` those for two arrays of samples.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
