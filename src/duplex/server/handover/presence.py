"""Whether somebody is on a websocket, asked of the connection that carries it, if that is this server's own.

Other servers of ASGI have nothing like it (:mod:`duplex.server.watched`), and neither has a websocket that another
process has accepted and passed on: there nothing is noticed, and everybody counts as there.
"""

from collections.abc import Awaitable, Callable

from starlette.websockets import WebSocket

__all__ = ["answers", "watch"]


def watch(websocket: WebSocket) -> None:
    """Have it noticed soon when nobody is there any more.

    Where nobody could come back it is not: a line that recovers after ten seconds is better than a call that has ended.
    """
    watched: Callable[[], None] | None = websocket.scope.get("state", {}).get("watch")
    if watched is not None:
        watched()


async def answers(websocket: WebSocket) -> bool:
    """Ask who has opened a websocket whether they are still there."""
    asked: Callable[[], Awaitable[bool]] | None = websocket.scope.get("state", {}).get("answers")
    return asked is None or await asked()
