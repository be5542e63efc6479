"""Training: the speech that a model learns from, and the codec that is made of it.

    from pathlib import Path
    from duplex.training import train_codec
    from duplex.training.data import build, plan

    build(plan(Path("corpus")))
    train_codec(Path("corpus"), Path("run"))

What is written is a checkpoint in the published layout, made of the very modules that the torch backend runs.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
