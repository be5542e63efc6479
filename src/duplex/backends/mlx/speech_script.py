"""The state machine of :mod:`duplex.synthesis.machine` for a whole batch, as operations on the slots' states.

What a slot remembers is in :mod:`duplex.backends.shared.script_state`. Nothing goes to the host.
"""

from collections.abc import Sequence

import attrs
import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from duplex.backends.mlx.arrays import from_numpy, to_numpy
from duplex.backends.mlx.language_model import LanguageModel
from duplex.backends.mlx.state import Call, SlotState, StateSpec
from duplex.backends.shared.script_state import (
    AT,
    ENTRIES,
    NUMBERS,
    SHAPES,
    TOKENS,
    UNENDED,
    Staged,
    machine_settings,
    overlap,
    voice_rows,
)
from duplex.checkpoints.kind_configs import TtsConfig
from duplex.frame_model import UNGENERATED, ZERO
from duplex.options import SessionOptions
from duplex.synthesis.machine import NEW_WORD, PADDING, MachineSettings
from duplex.synthesis.script import Entry

__all__ = ["SpeechScript", "speech_script"]


@attrs.frozen(eq=False)
class SpeechScript:
    """Says what the slots' texts say; ``delays`` int32 ``[agent_streams]`` are the codes'."""

    settings: MachineSettings
    delays: mx.array
    latest: int = 0
    """The longest of the delays."""

    def state_spec(self) -> dict[str, StateSpec]:
        """Return the rings and the numbers of a slot."""
        voice = {"voice": (overlap(self.settings, self.latest), len(self.delays))}
        return {f"script.{name}": StateSpec(shape, mx.int32) for name, shape in (SHAPES | voice).items()}

    def begin(self, state: SlotState, key: str, *, prefix: int = 0, streams: int | None = None) -> None:
        """Set up one slot's state: ``prefix`` steps without text, and codes of ``streams`` alone."""
        state[f"{key}.script.voice"] = mx.full_like(state[f"{key}.script.voice"], UNGENERATED)
        numbers = np.zeros(len(NUMBERS), np.int64)
        numbers[AT["remaining"]] = numbers[AT["forced"]] = self.settings.initial_padding
        numbers[AT["end"]], numbers[AT["prefix"]] = UNENDED, prefix
        numbers[AT["streams"]] = len(self.delays) if streams is None else streams
        state[f"{key}.script.numbers"] = from_numpy(numbers)

    def imitate(self, state: SlotState, key: str, codes: NDArray[np.int64], options: SessionOptions) -> None:
        """Let one slot's state go on from a voice, its codes int64 ``[agent_streams, n]``."""
        self.begin(state, key, prefix=codes.shape[1], streams=options.codebooks)
        last = voice_rows(codes, self.settings, to_numpy(self.delays))
        state[f"{key}.script.voice"] = from_numpy(last)

    def say(self, state: SlotState, key: str, entries: Sequence[Entry]) -> None:
        """Add to what one slot's state says."""
        own = {name: state[f"{key}.script.{name}"] for name in SHAPES}
        numbers, staged = own["numbers"], Staged.of(entries)
        written = numbers[AT["written"]]
        rows = from_numpy(staged.entries)
        rows[:, 0] = rows[:, 0] + written
        after = {
            "tokens": _put(own["tokens"], written, from_numpy(staged.tokens)),
            "entries": _put(own["entries"], numbers[AT["entries"]], rows),
            "words": _put(own["words"], numbers[AT["words"]], from_numpy(staged.words) + written),
            "numbers": numbers + from_numpy(staged.advance),
        }
        state |= {f"{key}.script.{name}": array for name, array in after.items()}

    def progress(self, state: SlotState, key: str) -> NDArray[np.int64]:
        """Return entries taken, words begun, and the end's step or -1, of one slot after a step: int64 ``[3]``."""
        return to_numpy(state[f"{key}.script.numbers"])[[AT["next"], AT["word"], AT["end"]]].astype(np.int64)

    def text(self, sampled: mx.array, step: mx.array, call: Call, key: str) -> mx.array:
        """Return the text token that is said for the one that was sampled, int32 ``[batch]`` both."""
        rings = {name: call.read(f"{key}.script.{name}") for name in SHAPES}
        before = {name: rings["numbers"][:, at] for name, at in AT.items()}
        said, after = self._said(sampled, step, before, rings)
        silent = step < before["prefix"]
        numbers = mx.where(silent[:, None], rings["numbers"], mx.stack([after[name] for name in NUMBERS], axis=1))
        call.write(f"{key}.script.numbers", numbers)
        return mx.where(silent, ZERO, said)

    def codes(self, chosen: mx.array, step: mx.array, call: Call, key: str) -> mx.array:
        """Return which codes are said for those that were chosen, int32 ``[batch, agent_streams]`` both."""
        numbers = call.read(f"{key}.script.numbers")
        voice = call.read(f"{key}.script.voice")
        row = step - numbers[:, AT["prefix"]] + 1
        known = _at(voice, mx.clip(row, 0, voice.shape[1] - 1))
        lasts = ((row >= 0) & (row < voice.shape[1]))[:, None] & (known != UNGENERATED)
        chosen = mx.where(lasts, known, chosen)
        early = step[:, None] < self.delays + self.settings.delay_steps
        unused = mx.arange(len(self.delays)) >= numbers[:, AT["streams"], None]
        return mx.where(early | unused, ZERO, chosen)

    def _said(
        self, sampled: mx.array, step: mx.array, now: dict[str, mx.array], rings: dict[str, mx.array]
    ) -> tuple[mx.array, dict[str, mx.array]]:
        now = dict(now)
        busy = (now["queued"] < now["queue_end"]) | (now["forced"] > 0)
        asked = ~busy & ((sampled == NEW_WORD) | (now["remaining"] <= 0))
        taken = asked & (now["next"] < now["entries"])
        entry = _at(rings["entries"], now["next"] % ENTRIES)
        end, length, padding = entry[:, 0], entry[:, 1], entry[:, 2]
        word = taken & (length > 0)
        now["queued"] = mx.where(word, end - length, now["queued"])
        now["queue_end"] = mx.where(word, end, now["queue_end"])
        now["next"] = now["next"] + taken
        now["forced"] = mx.where(taken, padding, now["forced"])
        now["remaining"] = mx.where(word, self.settings.max_padding, now["remaining"])
        if self.settings.ahead:
            self._look_ahead(word, now, rings)
        now["word"] = now["word"] + word
        ends = asked & ~taken & (now["end"] == UNENDED)
        now["end"] = mx.where(ends, step, now["end"])
        begins = word | ends if self.settings.ahead else word
        for name in ("remaining", "forced"):
            now[name] = mx.where(begins, now[name], mx.maximum(now[name] - 1, 0))
        return self._output(begins, now, rings["tokens"]), now

    def _look_ahead(self, word: mx.array, now: dict[str, mx.array], rings: dict[str, mx.array]) -> None:
        """Let the second queue reach to the end of the word ahead; it begins at that of the first word."""
        target = now["word"] + self.settings.ahead
        there = word & (target < now["words"])
        start = _at(rings["words"], (target - 1) % ENTRIES)
        empty = now["ahead"] >= now["ahead_end"]
        now["ahead"] = mx.where(there & empty, start, now["ahead"])
        now["ahead_end"] = mx.where(there, _at(rings["words"], target % ENTRIES), now["ahead_end"])

    def _output(self, begins: mx.array, now: dict[str, mx.array], tokens: mx.array) -> mx.array:
        def popped(wanted: mx.array, place: str, end: str, otherwise: int) -> mx.array:
            has = wanted & (now[place] < now[end])
            token = mx.where(has, _at(tokens, now[place] % TOKENS), otherwise)
            now[place] = now[place] + has
            return token

        first = mx.where(begins, NEW_WORD, popped(~begins, "queued", "queue_end", PADDING))
        if not self.settings.ahead:
            return first
        moved = first == NEW_WORD
        first = mx.where(moved, popped(moved, "queued", "queue_end", PADDING), first)
        second = mx.where(moved, NEW_WORD, popped(~moved, "ahead", "ahead_end", ZERO))
        return (second + 1) * self.settings.vocabulary + first


def speech_script(model: LanguageModel, config: TtsConfig, frame_rate: float) -> SpeechScript:
    """Return the script of a model of synthesis."""
    delays = mx.array(model.config.delays[model.agent], mx.int32)
    settings, latest = machine_settings(model.config, config, frame_rate), max(model.config.delays[model.agent])
    return SpeechScript(settings, delays, latest)


def _put(ring: mx.array, start: mx.array, values: mx.array) -> mx.array:
    """Return one ring with ``values`` ``[n, ...]`` from place ``start`` (one int32) on."""
    if not len(values):
        return ring
    ring = mx.array(ring)  # a copy: whoever is exporting this one goes on to read it
    ring[(start + mx.arange(len(values), dtype=mx.int32)) % len(ring)] = values
    return ring


def _at(ring: mx.array, place: mx.array) -> mx.array:
    """Return one entry of each row's ring: ``[batch, n, ...]`` at int32 ``[batch]``."""
    return ring[mx.arange(len(ring)), place]
