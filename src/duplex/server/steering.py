"""What a caller may do to a conversation that goes on, beside talking."""

from duplex.conversation.dialogue import KEYS, Dialogue
from duplex.server.wires.base import Action, Interrupt, MuteAgent, PressKey

__all__ = ["steer"]


async def steer(conversation: Dialogue, action: Action) -> None:
    """Do it; what is nothing of the kind is ignored."""
    match action:
        case Interrupt():
            await conversation.interrupt()
        case MuteAgent(muted):
            await conversation.mute_agent(muted)
        case PressKey(key) if key in KEYS:
            await conversation.press_key(key)
        case _:
            pass
