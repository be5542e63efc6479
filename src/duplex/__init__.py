"""Full-duplex speech dialogue: conversations with models that listen and speak at the same time.

::

    import anyio, duplex

    async def main() -> None:
        with duplex.load("tiny") as model:
            async with duplex.Conversation(model, duplex.FileTransport("question.wav")) as conversation:
                async for event in conversation:
                    print(event)

    anyio.run(main)

``import duplex`` itself costs nothing: a name is imported from its module when it is first used. The names stand, once
each, in ``__init__.pyi``, which type checkers and :mod:`lazy_loader` read.
"""

import lazy_loader as _lazy

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
__all__ += ["__version__"]
