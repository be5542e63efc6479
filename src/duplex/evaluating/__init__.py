"""Published benchmarks on a model: :func:`evaluate` is Full-Duplex-Bench."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
