"""Recordings of people for `conversation_quality.py`, and how much of what they say the agent talks over.

Who speaks here is in no training data, and says nothing that the agent knows: prompts for telephones, sentences read
aloud. Each recording is a call of its own; and those of a folder, one after another with a breath between them, are
talks of about a minute, in which the agent may take each breath for its turn.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from conversation_calls import RATE, Call
from duplex.audio.decoding import Decoder
from duplex.audio.folders import find_audio
from duplex.measuring import measure_audio
from duplex.training.data.voices import normalize_level

__all__ = ["PEOPLE", "Recording", "over_people", "recordings", "talks"]

Float32 = NDArray[np.float32]
PEOPLE = tuple(map(Path, ("/usr/share/asterisk/sounds", "/usr/share/sounds/alsa", "/usr/share/pocketsphinx/test/data")))
"""Where Debian's asterisk-core-sounds-en-wav, alsa-utils and pocketsphinx-testdata put theirs."""
LEAD, AFTER = 0.8, 2.0
BREATH = 0.4
TALK = 60.0
SHORTEST = 0.5
"""Seconds of a recording; what is shorter is a beep or a syllable."""


@attrs.frozen(eq=False)
class Recording:
    """What somebody says, float32 ``[samples]`` at 24 kHz and -24 dBFS, with the name of its file."""

    name: str
    folder: Path
    pcm: Float32

    @property
    def call(self) -> Float32:
        """It, with silence before and after."""
        return np.pad(self.pcm, (round(LEAD * RATE), round(AFTER * RATE)))


def recordings(places: Sequence[Path]) -> list[Recording]:
    """Return the recordings below some folders, in order."""
    found: list[Recording] = []
    for place in places:
        for path in sorted(find_audio(place)):
            pcm = _read(path)
            if len(pcm) >= SHORTEST * RATE and path.parent.name != "silence":
                found.append(Recording(str(path.relative_to(place)), path.parent, normalize_level(pcm)))
    return found


def talks(said: Sequence[Recording]) -> list[Recording]:
    """Return recordings of each folder one after another, in talks of about a minute."""
    made: list[Recording] = []
    breath = np.zeros(round(BREATH * RATE), np.float32)
    for each in said:
        last = made[-1] if made else None
        if last is None or last.folder != each.folder or len(last.pcm) >= TALK * RATE:
            made.append(each)
        else:
            made[-1] = attrs.evolve(last, pcm=np.concatenate([last.pcm, breath, each.pcm]))
    return made


def over_people(said: Sequence[Recording], calls: Sequence[Call]) -> dict[str, Any]:
    """Return the minutes of speech, what share of it the agent talks over, in %, and where that is most.

    ``with_backchannels`` counts the agent's "mm-hm" too. Silero's detector tells who speaks when, on both channels.
    """
    spoken = over = quiet = 0.0
    worst: dict[str, Any] = {"file": "", "seconds": 0.0, "of": 0.0}
    for recording, call in zip(said, calls, strict=True):
        found = measure_audio(call.user[: len(call.agent)], call.agent, RATE)
        short = [(each.start, each.end) for each in found.backchannels if each.speaker == "right"]
        speech = sum(unit.duration for unit in found.units if unit.speaker == "left")
        both = [(each.start, each.end) for each in found.overlaps]
        seconds = sum(end - start for start, end in both)
        murmured = sum(end - start for start, end in both if any(a <= start and end <= b for a, b in short))
        spoken, over, quiet = spoken + speech, over + seconds - murmured, quiet + murmured
        if seconds - murmured > worst["seconds"]:
            worst = {"file": recording.name, "seconds": round(seconds - murmured, 2), "of": round(speech, 2)}
    return {
        "recordings": len(said),
        "minutes": spoken / 60,
        "over": 100 * over / max(spoken, 1e-9),
        "with_backchannels": 100 * (over + quiet) / max(spoken, 1e-9),
        "worst": worst,
    }


def _read(path: Path) -> Float32:
    decoder = Decoder(path, RATE, "mix")
    pieces: list[Float32] = [np.zeros(0, np.float32)]
    try:
        while (piece := decoder.read()) is not None:
            pieces.append(piece)
    finally:
        decoder.close()
    return np.concatenate(pieces)
