"""What the answer that opens a websocket tells its caller, whatever the wire, before a word is spoken."""

__all__ = ["RECORDED", "SYNTHETIC", "disclosed"]

RECORDED = "duplex-recorded"
SYNTHETIC = "duplex-synthetic"


def disclosed(*, recorded: bool, synthetic: bool) -> list[tuple[bytes, bytes]]:
    """Return the headers that say that a call is ``recorded``, and that the voice on it is ``synthetic`` speech."""
    told = {RECORDED: recorded, SYNTHETIC: synthetic}
    return [(name.encode(), b"true") for name, so in told.items() if so]
