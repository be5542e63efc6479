"""Whose voice a synthesis model speaks with, and what else a session is conditioned on.

Published voices are files ``NAME.SIG@EPOCH.safetensors`` that belong to the checkpoint with this ``model_id``. Each has
``speaker_wavs`` float32 ``[1, dim, n]``; the program that makes them from a recording is not published.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from duplex.checkpoints.conditioning import ConditionerConfig
from duplex.errors import UsageError
from duplex.frame_model import Conditions

__all__ = ["MAX_SPEAKERS", "read_voice", "speaker_conditions", "voice_file"]

MAX_SPEAKERS = 5
"""How many voices the sequence of vectors has room for."""
MAX_VECTORS = 125
"""Of a voice: those of 10 seconds."""
SPEAKERS = "speaker_wavs"

Float32 = NDArray[np.float32]


def voice_file(folder: Path, name: str, sig: str, epoch: int) -> Path:
    """Return the file of a checkpoint's voice.

    :raises UsageError: if there is none of this name, naming those that there are
    """
    suffix = f".{sig}@{epoch}.safetensors"
    path = folder / f"{name}{suffix}"
    if Path(name).name == name and path.is_file():
        return path
    known = sorted(other.name.removesuffix(suffix) for other in folder.glob(f"*{suffix}"))
    names = ", ".join(known) if known else "none"
    raise UsageError(f"there is no voice {name!r} for this model ({sig}@{epoch}); voices here: {names}")


def read_voice(path: Path, dim: int) -> Float32:
    """Return a voice as float32 ``[n, dim]``.

    :raises UsageError: if the file is no voice, not of this width, silent, too long, or holds what is no number
    """
    try:
        with cast(Any, safe_open)(path, "numpy") as file:
            if SPEAKERS not in file.keys():  # noqa: SIM118 -- not a mapping
                raise UsageError(f"{path}: this is no voice, it has no {SPEAKERS!r}; give a file of the model's voices")
            found: NDArray[Any] = file.get_tensor(SPEAKERS)
    except (OSError, SafetensorError) as error:
        raise UsageError(f"{path}: this voice cannot be read ({error}); give a file of the model's voices") from error
    if found.ndim != 3 or found.shape[:2] != (1, dim) or found.dtype.kind != "f":  # noqa: PLR2004
        raise UsageError(f"{path}: the voice is {found.dtype} {list(found.shape)}; this model takes [1, {dim}, n]")
    if not 0 < found.shape[2] <= MAX_VECTORS:
        raise UsageError(f"{path}: the voice has {found.shape[2]} vectors; give one of 1 to {MAX_VECTORS}")
    if not np.isfinite(found).all():
        raise UsageError(f"{path}: the voice holds what is no number; download or make it again")
    if not found.any():
        raise UsageError(f"{path}: the voice is silent; give another")
    return found[0].T.astype(np.float32)


def speaker_conditions(
    voices: Sequence[Float32], conditioners: dict[str, ConditionerConfig], *, guidance: float
) -> tuple[Conditions, float]:
    """Return what a session is conditioned on, and the guidance that is left to do.

    ``voices`` are float32 ``[n, dim]`` of one length, at most 5. A model with the condition ``cfg`` was trained to
    speak as if guided: the coefficient is a word for it, and no second row is needed.

    :raises UsageError: if the voices do not fit the model or each other, or ``cfg`` knows no such coefficient
    """
    words = {"control": "ok"} if "control" in conditioners else {}
    if "cfg" in conditioners:
        words["cfg"] = _coefficient(guidance, conditioners["cfg"])
        guidance = 1.0
    if SPEAKERS not in conditioners:
        if voices:
            raise UsageError("this model takes no voices of vectors; give the recording of a voice instead")
        return Conditions(words=words), guidance
    if not voices:
        return Conditions(words=words), guidance
    if len(voices) > MAX_SPEAKERS or len({voice.shape for voice in voices}) > 1:
        raise UsageError(f"give at most {MAX_SPEAKERS} voices, all of one length; there are {len(voices)}")
    absent = [np.zeros_like(voices[0])] * (MAX_SPEAKERS - len(voices))
    mask = np.arange(MAX_SPEAKERS * len(voices[0])) < len(voices) * len(voices[0])
    vectors = np.concatenate([*voices, *absent])
    return Conditions(words=words, vectors={SPEAKERS: vectors}, masks={SPEAKERS: mask}), guidance


def _coefficient(guidance: float, table: ConditionerConfig) -> str:
    for word in table.values:
        if float(word) == guidance:
            return word
    raise UsageError(f"guidance is {guidance}, but this model knows {', '.join(table.values)}; choose one of them")
