"""What a machine makes of a model: times by stage, memory, sessions in real time, latency, and the original beside it.

``duplex bench`` prints it.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
