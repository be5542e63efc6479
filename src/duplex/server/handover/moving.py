"""Calls that move to another server: what is kept of them while they go on, and when this one stops.

1. Every few seconds a call is saved as it is (:func:`keep_saving`), for the case that this process dies.
2. When the server stops, the call stands still at a frame boundary, is saved with what its caller may not have heard,
   and the caller is told where it goes on (:func:`move`).
3. Of whoever saves a call that somebody else has claimed, the call is over: there is one owner.
4. A store that is full, slow or gone costs no call: they go on, and cannot move meanwhile.
"""

import contextlib
import logging

import anyio

from duplex.conversation.local import Conversation
from duplex.errors import ClosedError, ModelError
from duplex.server.handover.kept_line import KeptLine
from duplex.server.handover.stores import FencedError, StateStore, StoreError
from duplex.server.metrics import Metrics

__all__ = ["OWNED", "keep_saving", "move"]

log: logging.Logger = logging.getLogger(__name__)

FIRST_SECONDS = 1.0
"""After which a call is saved first."""
SECONDS_BETWEEN = 3.0
"""Between two times: what a crash may cost."""
STORE_SECONDS = 2.0
"""That the store may take."""
HALT_SECONDS = 5.0
"""That a conversation may take to stand still with all told."""
MAX_BYTES = 64 << 20
"""Of a call that is saved while it goes on; one that is larger can move, but not be saved from a crash."""
KEPT, OWNED = 0, 1
"""Generations of a key: of who keeps a call under it, and of who goes on with it. Each token has a key of its own."""
MARGIN_SECONDS = 10.0
"""For which a call is kept beyond the grace."""


async def keep_saving(store: StateStore, line: KeptLine, conversation: Conversation, metrics: Metrics) -> None:
    """Save a call again and again, until it is found to be somebody else's, or cancelled."""
    try:
        await _save_often(store, line, conversation, metrics)
    finally:
        if not line.moved:  # it is over, and nobody else may go on with it
            with anyio.move_on_after(STORE_SECONDS, shield=True), contextlib.suppress(StoreError, OSError):
                await store.discard(line.key)


async def _save_often(store: StateStore, line: KeptLine, conversation: Conversation, metrics: Metrics) -> None:
    await anyio.sleep(FIRST_SECONDS)
    last = last_tried = ""
    while True:
        try:
            key, data = await line.save(await conversation.export(), whole=False)
            last_tried = key
            if len(data) > MAX_BYTES:
                log.warning("a call of %d bytes is too large to be saved while it goes on", len(data))
                await anyio.sleep_forever()
            await _put(store, line, key, data, metrics)
            if last not in ("", key):
                await store.discard(last)
            last = key
        except FencedError:
            await anyio.sleep(STORE_SECONDS)
            if line.key == last_tried:  # and not its own caller, who comes back with the old key and gets a new one
                return
        except (StoreError, ModelError):
            log.debug("a call was not saved")
        except ClosedError:
            await anyio.sleep_forever()
        await anyio.sleep(SECONDS_BETWEEN)


async def move(store: StateStore, line: KeptLine, conversation: Conversation, url: str, metrics: Metrics) -> bool:
    """Let another server go on with a call; return whether it can: if not, the call goes on here."""
    try:
        with anyio.fail_after(HALT_SECONDS):
            state = await conversation.export(halt=True)
        await _put(store, line, *await line.save(state, whole=True), metrics)
    except (StoreError, ModelError, TimeoutError) as error:
        log.warning("a call cannot move: %s", str(error) or f"it does not stand still within {HALT_SECONDS:g} s")
        conversation.go_on()
        return False
    except ClosedError:
        return False
    line.moved = True
    await line.tell_moved(url)
    return True


async def _put(store: StateStore, line: KeptLine, key: str, data: bytes, metrics: Metrics) -> None:
    """Keep a call.

    :raises StoreError: if the store does not take it in time
    """
    try:
        with anyio.fail_after(STORE_SECONDS):
            await store.put(key, KEPT, data, line.grace + MARGIN_SECONDS)
    except (StoreError, TimeoutError, OSError) as error:
        if isinstance(error, FencedError):
            raise
        metrics.unmovable.inc()
        reason = str(error) or f"no answer within {STORE_SECONDS:g} s"
        log.warning("a call is not kept, and cannot move: %s", reason)
        raise StoreError(f"the store does not take the call ({reason})") from error
