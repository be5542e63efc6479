"""Who is recorded, and how a caller comes to know of it. Pure.

1. A server that records says so before the call: at ``/api/info``, and in the header ``Duplex-Recorded`` of the answer
   that opens the websocket, whatever the wire. The page asks first.
2. ``?recording=agreed`` in an address is a caller's consent, ``?recording=refused`` its refusal.
3. With ``record_with_consent`` only those are recorded who have agreed, or heard a notice; else all are, and who
   refuses is not let in, for there is no call here without a recording.
4. A notice is played to callers by telephone, who can read nothing, before the model hears them.
"""

from collections.abc import Mapping

import attrs

from duplex.errors import UsageError
from duplex.parsing import shown
from duplex.server.settings import Settings

__all__ = ["TELEPHONES", "Consent", "records_all"]

TELEPHONES = frozenset({"twilio", "telnyx", "plivo"})
"""Wires whose callers only hear."""


def records_all(settings: Settings) -> bool:
    """Tell whether a server records whoever calls."""
    return settings.record is not None and not settings.record_with_consent


@attrs.frozen(kw_only=True)
class Consent:
    """Whether one call is recorded, and what its caller knows of it."""

    recorded: bool = False
    notice: bool = False
    """Whether the caller hears a notice before the conversation."""
    how: str = ""
    """``agreed``, ``notice``, or ``told`` where the server's answer alone says it."""

    @classmethod
    def of(cls, settings: Settings, wire: str, query: Mapping[str, str]) -> "Consent":
        """Decide for a caller on a wire.

        :raises UsageError: if the address refuses what this server does not leave out, or says neither
        """
        answer = query.get("recording", "")
        if answer not in ("", "agreed", "refused"):
            raise UsageError(f"recording is {shown(answer)}; give 'agreed' or 'refused'")
        if settings.record is None:
            return cls()
        if answer == "refused":
            if records_all(settings):
                raise UsageError(
                    "this server records all conversations; agree to that (recording=agreed), or do not call"
                )
            return cls()
        notice = wire in TELEPHONES and settings.notice is not None
        how = "agreed" if answer else "notice" if notice else "told"
        return cls(recorded=how != "told" or not settings.record_with_consent, notice=notice, how=how)
