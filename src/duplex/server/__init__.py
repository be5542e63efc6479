"""Many conversations on one model, for real clients and real browsers.

:func:`application` is an ASGI application for anybody's server; :func:`serve` runs it. Needs the extra ``serve``.
(``app``, the name that :func:`application` had before, is another for it until the next release.)
"""

import warnings
from typing import Any

import lazy_loader as _lazy

_load, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    from duplex.extras import require  # noqa: PLC0415 -- nothing else stands among the public names

    if name == "app":
        warnings.warn("duplex.server.app is duplex.server.application now", DeprecationWarning, stacklevel=2)
        name = "application"
    if name in __all__:
        needed = ("opuslib", "prometheus_client", "starlette", "threadpoolctl", "uvicorn", "websockets")
        require("serve", *needed, purpose="the server")
    return _load(name)
