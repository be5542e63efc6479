"""Benchmarks of a model on this machine: time per stage, memory, real-time sessions, latency, and the original package.

``duplex bench`` prints the results.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
