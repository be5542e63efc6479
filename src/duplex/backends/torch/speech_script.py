"""The state machine of :mod:`duplex.synthesis.machine` for a whole batch, as operations on the slots' state.

What a slot remembers is in :mod:`duplex.backends.shared.script_state`. Nothing goes to the host.
"""

from collections.abc import Sequence
from itertools import pairwise

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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
from duplex.backends.torch.language_model import LanguageModel
from duplex.backends.torch.state import Call, SlotState, StateSpec
from duplex.checkpoints.kind_configs import TtsConfig
from duplex.frame_model import UNGENERATED, ZERO
from duplex.options import SessionOptions
from duplex.synthesis.machine import NEW_WORD, PADDING, MachineSettings
from duplex.synthesis.script import Entry

__all__ = ["SpeechScript", "speech_script"]


@attrs.frozen(eq=False)
class SpeechScript:
    """Says what the slots' texts say; ``delays`` int64 ``[agent_streams]`` are the codes' on the model's device."""

    settings: MachineSettings
    delays: Tensor
    latest: int = 0
    """The longest of the delays."""

    def state_spec(self) -> dict[str, StateSpec]:
        """Return the rings and the numbers of a slot."""
        voice = {"voice": (overlap(self.settings, self.latest), len(self.delays))}
        return {f"script.{name}": StateSpec(shape, torch.int64) for name, shape in (SHAPES | voice).items()}

    def begin(self, state: SlotState, key: str, *, prefix: int = 0, streams: int | None = None) -> None:
        """Set up one slot's rows: ``prefix`` steps without text, and codes of ``streams`` alone."""
        state.tensors[f"{key}.script.voice"].fill_(UNGENERATED)
        numbers = state.tensors[f"{key}.script.numbers"][0]
        numbers.zero_()
        numbers[AT["remaining"]] = numbers[AT["forced"]] = self.settings.initial_padding
        numbers[AT["end"]], numbers[AT["prefix"]] = UNENDED, prefix
        numbers[AT["streams"]] = len(self.delays) if streams is None else streams

    def imitate(self, state: SlotState, key: str, codes: NDArray[np.int64], options: SessionOptions) -> None:
        """Let one slot's rows go on from a voice, its codes int64 ``[agent_streams, n]``."""
        self.begin(state, key, prefix=codes.shape[1], streams=options.codebooks)
        last = voice_rows(codes, self.settings, self.delays.cpu().numpy())
        state.tensors[f"{key}.script.voice"].copy_(torch.as_tensor(last)[None])

    def say(self, state: SlotState, key: str, entries: Sequence[Entry]) -> None:
        """Add to what one slot's rows say."""
        own = {name: state.tensors[f"{key}.script.{name}"][0] for name in SHAPES}
        numbers, staged = own["numbers"], Staged.of(entries)
        parts = staged.tokens, staged.entries.ravel(), staged.words, staged.advance
        copied = torch.as_tensor(np.concatenate(parts)).to(numbers.device)  # all in one copy, and nothing comes back
        ends = np.cumsum([0, *map(len, parts)]).tolist()
        tokens, rows, words, advance = (copied[start:end] for start, end in pairwise(ends))
        rows, written = rows.view(-1, 3), numbers[AT["written"]]
        rows[:, 0] += written
        _put(own["tokens"], written, tokens)
        _put(own["entries"], numbers[AT["entries"]], rows)
        _put(own["words"], numbers[AT["words"]], words + written)
        numbers += advance

    def progress(self, state: SlotState, key: str) -> Tensor:
        """Return entries taken, words begun, and the end's step or -1, of all slots: int64 ``[slots, 3]``."""
        return state.tensors[f"{key}.script.numbers"][:, [AT["next"], AT["word"], AT["end"]]]

    def text(self, sampled: Tensor, step: Tensor, call: Call, key: str) -> Tensor:
        """Return the text token that is said for the one that was sampled, int64 ``[batch]`` both."""
        held = {name: call.read(f"{key}.{name}") for name in self.state_spec()}
        rings = {name.removeprefix("script."): tensor for name, tensor in held.items() if tensor is not None}
        columns = rings["numbers"].unbind(1)
        before: dict[str, Tensor] = {name: columns[at] for name, at in AT.items()}
        said, after = self._said(sampled, step, before, rings)
        silent = step < before["prefix"]
        numbers = torch.where(silent[:, None], rings["numbers"], torch.stack([after[name] for name in NUMBERS], 1))
        call.write(f"{key}.script.numbers", numbers)
        return torch.where(silent, ZERO, said)

    def codes(self, chosen: Tensor, step: Tensor, call: Call, key: str) -> Tensor:
        """Return which codes are said for those that were chosen, int64 ``[batch, agent_streams]`` both."""
        numbers, voice = call.read(f"{key}.script.numbers"), call.read(f"{key}.script.voice")
        assert numbers is not None
        assert voice is not None
        row = step - numbers[:, AT["prefix"]] + 1
        known = _at(voice, row.clamp(0, voice.shape[1] - 1))
        lasts = ((row >= 0) & (row < voice.shape[1]))[:, None] & (known != UNGENERATED)
        chosen = torch.where(lasts, known, chosen)
        early = step[:, None] < self.delays + self.settings.delay_steps
        unused = torch.arange(len(self.delays), device=step.device) >= numbers[:, AT["streams"], None]
        return torch.where(early | unused, ZERO, chosen)

    def _said(
        self, sampled: Tensor, step: Tensor, now: dict[str, Tensor], rings: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        now = dict(now)
        busy = (now["queued"] < now["queue_end"]) | (now["forced"] > 0)
        asked = ~busy & ((sampled == NEW_WORD) | (now["remaining"] <= 0))
        taken = asked & (now["next"] < now["entries"])
        end, length, padding = _at(rings["entries"], now["next"] % ENTRIES).unbind(1)
        word = taken & (length > 0)
        now["queued"] = torch.where(word, end - length, now["queued"])
        now["queue_end"] = torch.where(word, end, now["queue_end"])
        now["next"] = now["next"] + taken
        now["forced"] = torch.where(taken, padding, now["forced"])
        now["remaining"] = torch.where(word, self.settings.max_padding, now["remaining"])
        if self.settings.ahead:
            self._look_ahead(word, now, rings)
        now["word"] = now["word"] + word
        ends = asked & ~taken & (now["end"] == UNENDED)
        now["end"] = torch.where(ends, step, now["end"])
        begins = word | ends if self.settings.ahead else word
        for name in ("remaining", "forced"):
            now[name] = torch.where(begins, now[name], (now[name] - 1).clamp(min=0))
        return self._output(begins, now, rings["tokens"]), now

    def _look_ahead(self, word: Tensor, now: dict[str, Tensor], rings: dict[str, Tensor]) -> None:
        """Let the second queue reach to the end of the word ahead; it begins at that of the first word."""
        target = now["word"] + self.settings.ahead
        there = word & (target < now["words"])
        start = _at(rings["words"], (target - 1) % ENTRIES)
        empty = now["ahead"] >= now["ahead_end"]
        now["ahead"] = torch.where(there & empty, start, now["ahead"])
        now["ahead_end"] = torch.where(there, _at(rings["words"], target % ENTRIES), now["ahead_end"])

    def _output(self, begins: Tensor, now: dict[str, Tensor], tokens: Tensor) -> Tensor:
        def popped(wanted: Tensor, place: str, end: str, otherwise: int) -> Tensor:
            has = wanted & (now[place] < now[end])
            token = torch.where(has, _at(tokens, now[place] % TOKENS), otherwise)
            now[place] = now[place] + has
            return token

        first = torch.where(begins, NEW_WORD, popped(~begins, "queued", "queue_end", PADDING))
        if not self.settings.ahead:
            return first
        moved = first == NEW_WORD
        first = torch.where(moved, popped(moved, "queued", "queue_end", PADDING), first)
        second = torch.where(moved, NEW_WORD, popped(~moved, "ahead", "ahead_end", ZERO))
        return (second + 1) * self.settings.vocabulary + first


def speech_script(model: LanguageModel, config: TtsConfig, frame_rate: float) -> SpeechScript:
    """Return the script of a model of synthesis."""
    settings, latest = machine_settings(model.config, config, frame_rate), max(model.config.delays[model.agent])
    return SpeechScript(settings, model.delays[model.agent], latest)


def _put(ring: Tensor, start: Tensor, values: Tensor) -> None:
    """Write ``values`` ``[n, ...]`` to one ring, from place ``start`` (one int64) on."""
    ring[(start + torch.arange(len(values), device=ring.device)) % len(ring)] = values


def _at(ring: Tensor, place: Tensor) -> Tensor:
    """Return one entry of each row's ring: ``[batch, n, ...]`` at int64 ``[batch]``."""
    return ring[torch.arange(ring.shape[0], device=ring.device), place]
