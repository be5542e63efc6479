"""From a session's options to the prompt that its model is fed first."""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from duplex.checkpoints.tokenizer import Tokenizer
from duplex.checkpoints.voices import Voices
from duplex.errors import AudioFileError, UsageError
from duplex.frame_model import ModelSpec
from duplex.options import SAYING, ModelKind, SessionOptions
from duplex.parsing import shown
from duplex.prompting.personaplex import PublishedVoice, persona_prompt, tagged
from duplex.prompting.prompt import Prompt
from duplex.prompting.voices import VoiceEncoder, find_voice, read_voice

__all__ = ["TAKES_PERSONA", "build_prompt", "check_persona", "check_prompt"]

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

TAKES_PERSONA: Collection[ModelKind] = ("personaplex",)
"""Kinds of models that a conversation can give instructions and a voice."""


def check_persona(kind: ModelKind, options: SessionOptions) -> None:
    """Check that a kind of model that hears takes what is asked for beside sampling.

    :raises UsageError: if it takes no persona, or a text is wanted that it says
    """
    saying = [name for name in SAYING if getattr(options, name) is not None]
    if saying:
        raise UsageError(
            f"{' and '.join(saying)} is for texts that a model says (duplex.Speaker, duplex say); leave it out"
        )
    asked = [name for name in ("instructions", "voice") if getattr(options, name) is not None]
    if asked and kind not in TAKES_PERSONA:
        raise UsageError(
            f"this model ({kind}) takes no {' and no '.join(asked)}; leave that out, or load a model that does, "
            "such as nvidia/personaplex-7b-v1"
        )


def build_prompt(
    spec: ModelSpec,
    encode: VoiceEncoder,
    tokenizer: Tokenizer,
    voices: Voices,
    options: SessionOptions,
    *,
    history: Int64 | None = None,
    files: bool = True,
) -> Prompt | None:
    """Return what a conversation with these options begins with, ``history`` last; ``None`` for nothing.

    This reads a file and encodes it, so it takes a while. Unless ``files`` may be given, a voice is a name of
    ``voices``.

    :raises UsageError: if the model takes no persona, there is no such voice, or it is all too long
    :raises AudioFileError: if the voice cannot be read
    """
    check_persona(spec.kind, options)
    prompt: Prompt | None = None
    if options.instructions is not None or options.voice is not None:
        voice = None if options.voice is None else _voice(spec, encode, voices, options.voice, files=files)
        text = options.instructions or ""
        prompt = persona_prompt(spec, voice, tokenizer.encode(tagged(text)) if text.strip() else [])
    if history is not None:
        prompt = Prompt(history) if prompt is None else prompt.followed_by(history)
    if prompt is not None:
        prompt.check(spec)
    return prompt


def check_prompt(
    spec: ModelSpec, tokenizer: Tokenizer, voices: Voices, options: SessionOptions, *, files: bool = True
) -> None:
    """Check what :func:`build_prompt` would be given, without a model: a voice's file is read, and not encoded.

    :raises UsageError: if the model takes no persona, there is no such voice, or it is all too long
    :raises AudioFileError: if the voice cannot be read
    """

    def counted(pcm: Float32) -> Int64:
        """Stand in for a codec: as many codes."""
        return np.zeros((spec.agent_streams, len(pcm) // spec.frame_size), np.int64)

    build_prompt(spec, counted, tokenizer, voices, options, files=files)


def _voice(spec: ModelSpec, encode: VoiceEncoder, voices: Voices, given: str, *, files: bool) -> Int64 | PublishedVoice:
    path = find_voice(voices, given, files=files)
    try:
        return read_voice(path, spec, encode)
    except AudioFileError as error:
        if files:
            raise
        # Where a server has its files is not for a caller to know.
        raise AudioFileError(str(error).replace(str(path), f"the voice {shown(given)}")) from None
