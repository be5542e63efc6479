"""What a slot remembers of the text that it says, the same numbers under the same names on any backend.

Words and their tokens lie in rings that the host writes between steps. A new word begins only when the queue of the one
before is empty, and words are looked ahead to in their order: so both queues are ranges of the ring of tokens, and a
step moves a few numbers. None of it depends on how a backend rounds, so that any takes over what another exported.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.backends.shared.slots import LONGEST_LIFE
from duplex.backends.shared.snapshots import SCRIPT
from duplex.checkpoints.kind_configs import TtsConfig
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.frame_model import UNGENERATED, ModelSpec
from duplex.synthesis.machine import MachineSettings
from duplex.synthesis.script import Entry

__all__ = [
    "AT",
    "ENTRIES",
    "NUMBERS",
    "SHAPES",
    "TOKENS",
    "UNENDED",
    "Staged",
    "check_script",
    "machine_settings",
    "overlap",
    "voice_rows",
]

TOKENS, ENTRIES = 4096, 1024
"""How many tokens and entries a slot's rings hold."""
UNENDED = -1
NUMBERS = ("next", "entries", "written", "word", "words", "queued", "queue_end", "ahead", "ahead_end",
           "remaining", "forced", "end", "prefix", "streams")  # fmt: skip
"""The columns of a slot's numbers: places in the rings, paddings, the last step, and what its session chose."""
AT: dict[str, int] = {name: column for column, name in enumerate(NUMBERS)}
SHAPES: dict[str, tuple[int, ...]] = {
    "numbers": (len(NUMBERS),),  # the first to be exported: what is said meanwhile is then beyond what they count
    "tokens": (TOKENS,),
    "entries": (ENTRIES, 3),  # end in the ring of tokens, length, padding
    "words": (ENTRIES,),  # the end of each word's tokens
}
"""Of a slot's integers, by the last part of their names; ``voice`` is one more (:func:`voice_rows`)."""

Int64 = NDArray[np.int64]


@attrs.frozen(eq=False)
class Staged:
    """Entries as they go into the rings: places count from the end of what is there."""

    tokens: Int64
    """``[n]``"""
    entries: Int64
    """``[entries, 3]``"""
    words: Int64
    """``[words]``"""

    @classmethod
    def of(cls, entries: Sequence[Entry]) -> "Staged":
        """Return entries in this form."""
        lengths = np.array([len(entry.tokens) for entry in entries], np.int64)
        ends = np.cumsum(lengths, dtype=np.int64)
        paddings = np.array([entry.padding for entry in entries], np.int64)
        tokens = np.array([token for entry in entries for token in entry.tokens], np.int64)
        return cls(tokens, np.stack([ends, lengths, paddings], axis=1), ends[lengths > 0])

    @property
    def advance(self) -> Int64:
        """What is added to a slot's numbers, ``[len(NUMBERS)]``."""
        added = np.zeros(len(NUMBERS), np.int64)
        added[AT["entries"]], added[AT["written"]], added[AT["words"]] = (
            len(self.entries),
            len(self.tokens),
            len(self.words),
        )
        return added


def machine_settings(config: LanguageModelConfig, tts: TtsConfig, frame_rate: float) -> MachineSettings:
    """Return what a checkpoint says of its text."""
    return MachineSettings(
        vocabulary=config.text_card + 1,
        ahead=tts.second_stream_ahead if config.demux_second_stream else 0,
        delay_steps=int(tts.audio_delay * frame_rate),
    )


def overlap(settings: MachineSettings, latest: int) -> int:
    """Return in how many steps, from the last one without a text on, codes of a voice that came first may be said.

    ``latest`` is the longest delay of a code.
    """
    return settings.delay_steps + latest + 1


def voice_rows(codes: Int64, settings: MachineSettings, delays: NDArray[Any]) -> Int64:
    """Return what is said of a voice ``[agent_streams, n]`` in those steps, ``[overlap, agent_streams]``.

    It is ``UNGENERATED`` where nothing is.
    """
    count, rows = codes.shape[1], np.arange(overlap(settings, int(delays.max())))[:, None]
    column = count - 1 + rows - settings.delay_steps - delays
    known = np.take_along_axis(codes.T, column.clip(0, count - 1), axis=0)
    return np.where((column >= 0) & (column < count), known, UNGENERATED)


def check_script(tensors: Mapping[str, NDArray[np.generic]], settings: MachineSettings, spec: ModelSpec) -> None:
    """Check what a state holds of a text: a token that no table has would end the neighbours' steps, too.

    :raises ValueError: naming what is out of range
    """
    agent = spec.delays[spec.text_streams : spec.text_streams + spec.agent_streams]
    voice = {"voice": (overlap(settings, max(agent)), spec.agent_streams)}
    for name, shape in (SHAPES | voice).items():
        held = np.asarray(tensors[SCRIPT + name])
        if held.dtype != np.int64 or held.shape != shape:
            raise ValueError(f"'{SCRIPT}{name}' is {held.dtype} {list(held.shape)}, not int64 {list(shape)}")
        least = {"numbers": UNENDED, "voice": UNGENERATED}.get(name, 0)
        most = {"tokens": settings.vocabulary - 1, "voice": spec.audio_vocabulary - 1}.get(name, LONGEST_LIFE)
        if held.min() < least or held.max() > most:
            raise ValueError(f"'{SCRIPT}{name}' runs from {held.min()} to {held.max()}, beyond {least} to {most}")
    _check_places(np.asarray(tensors[f"{SCRIPT}numbers"]).tolist())


def _check_places(numbers: Sequence[int]) -> None:
    """Check that a slot's places follow each other, and that what is yet to be said lies in the rings."""
    held: dict[str, int] = dict(zip(NUMBERS, numbers, strict=True))
    for first, last, size in (
        ("next", "entries", ENTRIES),
        ("word", "words", ENTRIES),
        ("queued", "queue_end", TOKENS),
        ("queue_end", "written", TOKENS),
        ("ahead", "ahead_end", TOKENS),
        ("ahead_end", "written", LONGEST_LIFE),  # nothing moves it where no word is looked ahead to
    ):
        if not 0 <= held[first] <= held[last] <= held[first] + size:
            raise ValueError(f"its text is at {first} {held[first]} of {last} {held[last]}")
