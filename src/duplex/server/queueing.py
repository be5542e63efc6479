"""A caller's wait for a place of a model."""

import anyio

from duplex.server.admission import Door, Refusal
from duplex.server.line import Line
from duplex.server.service import Service
from duplex.server.wires.base import Wire

__all__ = ["KEEPALIVE", "wait_for_place"]

KEEPALIVE = 5.0
"""Seconds between messages to a caller who waits: the original's page hangs up after ten without."""


async def wait_for_place(service: Service, admission: Door, caller: int, line: Line[Wire]) -> Refusal | None:
    """Wait, telling the caller how many are before; return why there is no place, ``None`` if there is one.

    :raises WebSocketDisconnect: if nobody is there any more
    """
    told = 0
    with anyio.move_on_after(service.settings.queue_timeout):
        while position := admission.position(caller):
            if admission.draining:
                return Refusal.DRAINING
            if position != told:
                await line.send(line.wire.waiting, position)
                told = position
                continue  # it may have changed meanwhile
            with anyio.move_on_after(KEEPALIVE) as quiet:
                await service.changed.wait()
            if quiet.cancelled_caught:
                await line.send(line.wire.keep_alive)
        return None
    return Refusal.WAITED
