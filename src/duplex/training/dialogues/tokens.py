"""Tokens of dialogues: a text token and the codes of both channels for each frame.

Columns are time steps, undelayed, as in ``tokens.safetensors``. The text stream has the agent's words aligned with the
audio: a word's pieces from the frame in which it begins, one per frame, an end-of-padding token before the first of
them where that frame is free, padding elsewhere (section 3.4.4 of the paper). The user's words are aligned in the same
way in a separate stream, which is not an input but a target of an auxiliary head.
"""

from collections.abc import Callable

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.checkpoints.tokenizer import Tokenizer
from duplex.codec import Codec
from duplex.frame_model import UNGENERATED
from duplex.training.dialogues.dialogue import Dialogue
from duplex.transcription.alignment import SpecialTokens, align_words

__all__ = ["DialogueTokens", "tokenize"]

Int64 = NDArray[np.int64]
Encode = Callable[[NDArray[np.float32]], Int64]


@attrs.frozen(kw_only=True, eq=False)
class DialogueTokens:
    """The tokens of one dialogue, int64, all with the same number of frames."""

    text: Int64
    """``[frames]``"""
    agent: Int64
    """``[codebooks, frames]``"""
    user: Int64
    """``[codebooks, frames]``"""
    user_text: Int64
    """``[frames]``, all ``UNGENERATED`` without a transcript of the user"""


def tokenize(
    dialogue: Dialogue, codec: Codec, encode_agent: Encode, tokenizer: Tokenizer, marks: SpecialTokens
) -> DialogueTokens:
    """Return a dialogue's tokens; a partial last frame is padded with silence."""
    agent, user = encode_agent(dialogue.agent), codec.encode(dialogue.user)
    frames, frame = int(agent.shape[1]), codec.spec.frame_size / codec.spec.sample_rate
    unknown: Int64 = np.full(frames, UNGENERATED, np.int64)
    return DialogueTokens(
        text=align_words(dialogue.agent_words, frames, frame, tokenizer, marks),
        agent=agent,
        user=user,
        user_text=unknown
        if dialogue.user_words is None
        else align_words(dialogue.user_words, frames, frame, tokenizer, marks),
    )
