"""PersonaPlex's prompt: a voice by example, and instructions as text, between stretches of silence.

1. The voice: the agent speaks the example's codes; the text is padding.
2. Half a second of silence.
3. The instructions between two ``<system>``, one token a frame; the agent is silent.
4. Half a second of silence.

The user's side is a tone throughout. Of the published program's columns the first is lost (its place is that of the
initial tokens), so it is left out here.
"""

from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.frame_model import ModelSpec
from duplex.prompting.prompt import EmbeddedColumns, Prompt

__all__ = ["TAG", "PersonaTokens", "PublishedVoice", "persona_prompt", "tagged"]

Int64 = NDArray[np.int64]
TAG = "<system>"
SILENCE_SECONDS = 0.5


@attrs.frozen
class PersonaTokens:
    """Codes, one a stream, of what the prompt is made of: the agent's silence, and the tone on the user's side."""

    silence: tuple[int, ...] = (948, 243, 1178, 546, 1736, 1030, 1978, 2008)
    tone: tuple[int, ...] = (430, 1268, 381, 1611, 1095, 1495, 56, 472)

    def fitting(self, spec: ModelSpec) -> "PersonaTokens":
        """Return codes within a model's vocabulary: models of other sizes than the published one are for tests."""
        size = spec.audio_vocabulary
        return PersonaTokens(tuple(code % size for code in self.silence), tuple(code % size for code in self.tone))


@attrs.frozen(eq=False)
class PublishedVoice:
    """A voice as the authors publish it: what the model was fed, and the last tokens.

    ``inputs`` is float32 ``[n - 1, dim]`` for a voice of n columns, the initial step's first; ``ring`` int64
    ``[streams, 4]`` are their delayed tokens, those of position p in column p modulo 4.
    """

    inputs: NDArray[np.float32]
    ring: Int64


def tagged(instructions: str) -> str:
    """Return instructions as the model was trained to see them.

    >>> tagged("You are a baker. ")
    '<system> You are a baker. <system>'
    """
    text = instructions.strip()
    return text if text.startswith(TAG) and text.endswith(TAG) else f"{TAG} {text} {TAG}"


def persona_prompt(
    spec: ModelSpec,
    voice: Int64 | PublishedVoice | None,
    instructions: Sequence[int],
    tokens: PersonaTokens | None = None,
) -> Prompt:
    """Return the prompt for a voice (codes int64 ``[agent_streams, n]``) and the tokens of tagged instructions."""
    known = (tokens or PersonaTokens()).fitting(spec)
    pause = np.tile(np.array(known.silence)[:, None], round(np.floor(SILENCE_SECONDS * spec.frame_rate)))
    text = np.tile(np.array(known.silence)[:, None], len(instructions))
    codes = [] if voice is None or isinstance(voice, PublishedVoice) else [voice]
    agent = np.concatenate([*codes, pause, text, pause], axis=1)
    words = np.full(agent.shape[1], spec.text_padding)
    begin = agent.shape[1] - pause.shape[1] - len(instructions)
    words[begin : begin + len(instructions)] = instructions
    tone = np.tile(np.array(known.tone)[:, None], agent.shape[1])
    columns = np.concatenate([words[None], agent, tone]).astype(np.int64)
    if isinstance(voice, PublishedVoice):
        embedded, last = _embedded(spec, voice)
        return Prompt(np.concatenate([last, columns], axis=1), embedded)
    return Prompt(columns[:, 1:])


def _embedded(spec: ModelSpec, voice: PublishedVoice) -> tuple[EmbeddedColumns, Int64]:
    """Return a published voice's columns but the last, and that one, int64 ``[streams, 1]``."""
    length, delays = len(voice.inputs) + 1, np.array(spec.delays)

    def column(number: int) -> Int64:
        return voice.ring[np.arange(len(delays)), (number + delays) % voice.ring.shape[1]]

    tokens = np.full((spec.streams, length - 2), -1, np.int64)
    for back in range(min(max(spec.delays), length - 2)):
        tokens[:, -1 - back] = column(length - 2 - back)
    return EmbeddedColumns(voice.inputs[1:], tokens), column(length - 1)[:, None]
