"""How likely a model finds what was said in recorded dialogues, frame by frame, by teacher forcing.

    import anyio, duplex
    from duplex.scoring import score_files

    async def main() -> None:
        with duplex.load("tiny", sessions=4) as model:
            for result in await score_files(model, ["calls"], "scores"):
                print(result.source.name, result.summary["sum"])

    anyio.run(main)

:func:`score_files` does it all, for recordings. :func:`score` is the asynchronous stream of a dialogue's frames, for
tokens from anywhere.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
