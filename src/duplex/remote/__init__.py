"""Conversations on a server's model. Needs the extra ``client``."""

from importlib.util import find_spec

from duplex.errors import MissingDependencyError

if missing := [name for name in ("opuslib", "websockets") if find_spec(name) is None]:
    raise MissingDependencyError(f"this needs {missing[0]}; install it with: pip install 'duplex-speech[client]'")

from duplex.remote.conversation import RemoteConversation

connect = RemoteConversation
"""``async with duplex.connect("http://127.0.0.1:8998") as conversation``: how a conversation on a server is made."""

__all__ = ["RemoteConversation", "connect"]
