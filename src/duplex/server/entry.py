"""What is known of a caller at the door, before the first message."""

from collections.abc import Mapping

import attrs

from duplex.events import JsonValue
from duplex.server.consent import Consent
from duplex.server.telemetry.protocol import CallTrace

__all__ = ["Entry"]


@attrs.frozen(kw_only=True)
class Entry:
    """How somebody came in."""

    wire: str = ""
    """The name of the wire."""
    trace: CallTrace | None = None
    """Who traces the call, if anybody does."""
    consent: Consent = attrs.field(factory=Consent)
    """Whether it is recorded, and what its caller knows of it."""

    saved: bytes | None = attrs.field(default=None, repr=False)
    """The state of a conversation that goes on from another server."""
    sequence: int = 0
    """The number of its next event."""

    @property
    def about(self) -> Mapping[str, JsonValue]:
        """What a recording says of it."""
        return {"wire": self.wire, "consent": self.consent.how}
