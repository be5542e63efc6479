"""The agent made silent, for one stretch of speech or altogether, without I/O.

A model of this family takes no order to be silent: it goes on inside, and hears that nobody listens as little as a
person on a muted line. What it says meanwhile is neither played nor told.

    heard        -> interrupted   interrupt(), while the agent speaks, or has just made a sound that may be speech
    interrupted  -> heard         the agent's own speech has stopped
    any          -> muted         muted = True, until it is False again
"""

import attrs
import numpy as np

from duplex.audio.pcm import level_dbfs
from duplex.conversation.turns import AgentTurns
from duplex.frame_model import Frame

__all__ = ["AgentMute"]


@attrs.define
class AgentMute:
    """Whether the agent is heard, and its frames as they are."""

    muted: bool = False
    """Whether nothing of the agent is heard."""
    interrupted: bool = False
    """Whether the rest of what it is saying is not heard."""
    _speech: AgentTurns = attrs.Factory(AgentTurns)
    """Of the model itself, heard or not."""

    @property
    def silent(self) -> bool:
        """Whether the frames that came last are not heard."""
        return self.muted or self.interrupted

    def interrupt(self) -> None:
        """Let nothing more be heard of what the agent is saying; if it is silent, nothing happens."""
        self._speech.presume()  # who does not want to hear it does not wait for two frames to be sure
        self.interrupted = self._speech.speaking

    def apply(self, frame: Frame) -> Frame:
        """Return the next frame as it is heard: with zeros for the agent's audio where it is not."""
        if frame.agent_pcm is None:
            return frame
        turn = self._speech.update(level_dbfs(frame.agent_pcm), frame.at)
        if turn is not None and not turn.started:
            self.interrupted = False
        return attrs.evolve(frame, agent_pcm=np.zeros_like(frame.agent_pcm)) if self.silent else frame
