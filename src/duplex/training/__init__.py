"""Training: synthetic speech and dialogues, the codec, and the language model.

    from pathlib import Path
    from duplex.training import train_codec
    from duplex.training.data import build, plan

    build(plan(Path("corpus")))
    train_codec(Path("corpus"), Path("run"))

The modules are those that the torch backend runs, and the result is a checkpoint in the published layout.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
