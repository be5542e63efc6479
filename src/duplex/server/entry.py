"""What is known of a caller at the door, before the first message."""

import attrs

from duplex.server.telemetry.protocol import CallTrace

__all__ = ["Entry"]


@attrs.frozen(kw_only=True)
class Entry:
    """How somebody came in."""

    wire: str = ""
    """The name of the wire."""
    trace: CallTrace | None = None
    """Who traces the call, if anybody does."""
