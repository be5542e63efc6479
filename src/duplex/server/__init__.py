"""Many conversations on one model, for real clients and real browsers.

:func:`app` is an ASGI application for anybody's server; :func:`serve` runs it. Needs the extra ``serve``.
"""

from importlib.util import find_spec

from duplex.errors import MissingDependencyError

_NEEDS = ("opuslib", "prometheus_client", "starlette", "threadpoolctl", "uvicorn", "websockets")
if missing := [name for name in _NEEDS if find_spec(name) is None]:
    raise MissingDependencyError(f"the server needs {missing[0]}; install it with: pip install 'duplex-speech[serve]'")

from duplex.server.app import app  # noqa: E402
from duplex.server.run import Listening, serve  # noqa: E402
from duplex.server.settings import Settings  # noqa: E402

__all__ = ["Listening", "Settings", "app", "serve"]
