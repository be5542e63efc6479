"""The MLX implementation of :class:`duplex.frame_model.FrameModel`.

A step computes the slots that have a frame, side by side, and no others. With ``deterministic`` every slot is stepped
alone, in the shape of one row, so that neither neighbours nor the slot's number can change a rounding. A step is one
graph, evaluated at once: encode, temporal transformer, text, depth transformer, decode; the host puts the audio in and
takes audio and tokens out. On a GPU the graph is compiled, once for each shape that it takes.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from duplex.backends.mlx import snapshot
from duplex.backends.mlx.arrays import evaluate, from_numpy, to_numpy
from duplex.backends.mlx.codec import MlxCodec
from duplex.backends.mlx.frame import Shape, compute_frame
from duplex.backends.mlx.guidance import guided_rows
from duplex.backends.mlx.language_model import LanguageModel
from duplex.backends.mlx.mimi import Mimi
from duplex.backends.mlx.prefill import LONGEST_RUN, prefill, prefill_embedded
from duplex.backends.mlx.sampling import Sampling
from duplex.backends.mlx.scoring import score
from duplex.backends.mlx.speech_script import SpeechScript
from duplex.backends.mlx.stages import stages
from duplex.backends.mlx.state import Call, SlotState, allocate, bind, exclusive
from duplex.backends.shared import delays, snapshots
from duplex.backends.shared.model_spec import empty_result, model_spec
from duplex.backends.shared.pieces import each_within, finish
from duplex.backends.shared.prefilling import check_inputs
from duplex.backends.shared.scoring import SCORING, check_scoring, scored_alone
from duplex.backends.shared.script_state import check_script
from duplex.backends.shared.slots import Slot, TokenLog
from duplex.backends.shared.snapshots import Origin
from duplex.backends.shared.state_checks import checked_state
from duplex.frame_model import Conditions, ModelSpec, SessionState, StepResult, TokenScores
from duplex.options import SessionOptions
from duplex.synthesis.script import Entry

__all__ = ["MlxFrameModel"]

Advance = Callable[[list[SlotState], mx.array], tuple[mx.array, mx.array | None, mx.array | None, list[SlotState]]]


class MlxFrameModel:
    """Mimi and the language model over ``sessions`` slots, on one device.

    ``numbers`` says what the language model computes with, such as ``"bfloat16 int4"``: states are exact within it.
    """

    COMPILED = 32
    """Graphs that are kept compiled; the least used makes room for another."""

    def __init__(
        self,
        mimi: Mimi,
        language_model: LanguageModel,
        *,
        device: mx.Device,
        dtype: mx.Dtype,
        numbers: str,
        sessions: int,
        deterministic: bool,
        compiled: bool,
        fingerprint: str,
    ) -> None:
        config = language_model.config
        self.codec: MlxCodec = MlxCodec(mimi, device)
        self.deterministic = deterministic
        self.origin: Origin = Origin("mlx", numbers, fingerprint)
        self.device: mx.Device = device
        self.dtype: mx.Dtype = dtype
        self.compiled: bool = compiled
        self.spec: ModelSpec = model_spec(config, self.codec.spec, sessions=sessions)
        self._mimi = mimi
        self._lm = language_model
        mimi.quantizer.partial = language_model.script is not None
        self._heard = bind(mimi, "mimi")
        self._thought = bind(language_model, "lm", LONGEST_RUN)
        rings = (mimi.encoder_transformer.ring, mimi.decoder_transformer.ring, language_model.transformer.ring)
        self._positions = {f"{ring.key}.position": ring.per_frame for ring in rings}
        self._graph = functools.lru_cache(self.COMPILED)(self._compile)
        self._ended: set[int] = set()
        """Slots whose next step ends the source."""
        self.state: list[SlotState] = [{} for _ in range(sessions)]
        self.slots: list[Slot] = [Slot(SessionOptions(), TokenLog(self.spec.streams)) for _ in range(sessions)]

    def open(self, slot: int, options: SessionOptions, conditions: Conditions | None = None) -> None:
        """Reset a slot, set its options and conditions, and run the initial step."""
        self.slots[slot] = Slot(options, TokenLog(self.spec.streams), conditions=conditions)
        self._ended.discard(slot)
        with exclusive(self.device):
            state = allocate(self._heard, mx.float32) | allocate(self._thought, self.dtype)
            self._lm.begin(state, options, conditions)
            if isinstance(self._lm.script, SpeechScript):
                self._lm.script.begin(state, self._lm.key, streams=options.codebooks)
            self._lm(None, Call([state], 1), Sampling.of([options]))
            evaluate(state)
        self.state[slot] = state

    def step(self, pcm: NDArray[np.float32], active: NDArray[np.bool_]) -> StepResult:
        """Advance the slots where ``active`` by one frame."""
        result = empty_result(self.spec, scripted=self._lm.script is not None)
        slots = [slot for slot, runs in enumerate(active) if runs]
        with exclusive(self.device):
            if not self.deterministic:
                if slots:
                    self._step(slots, pcm, result)
                return result
            for slot in slots:
                try:
                    self._step([slot], pcm, result)
                except Exception as error:  # noqa: BLE001 -- this slot's alone
                    result.errors[slot] = error
        return result

    def prefill(self, slot: int, tokens: NDArray[np.int64]) -> None:
        """Advance a slot over known tokens, int64 ``[streams, n]``."""
        self.spec.check_tokens(tokens)
        state, held = self.state[slot], self.slots[slot]
        before = len(held.log.columns)
        with exclusive(self.device):
            finish(prefill(self._lm, state, held, tokens))
            if self._lm.script is not None:  # the sound goes on from what has been said
                for column in held.log.columns[max(before, self.delay_steps) :]:
                    codes = from_numpy(column[self._lm.agent].astype(np.int64))
                    self._mimi.decode(codes[None, :, None], Call([state], held.frames + 1))
                evaluate(state)

    def prefill_embedded(self, slot: int, inputs: NDArray[np.float32], tokens: NDArray[np.int64]) -> Iterator[None]:
        """Advance a slot over columns of which the sums of embeddings are known, in pieces."""
        check_inputs(inputs, tokens, self.spec, self._lm.config.dim)
        return each_within(
            functools.partial(exclusive, self.device),
            prefill_embedded(self._lm, self.state[slot], self.slots[slot], inputs, tokens),
        )

    def open_for_scoring(self, slot: int, conditions: Conditions | None = None) -> None:
        """Reset a slot for :meth:`score`."""
        check_scoring(guided=False, scripted=self._lm.script is not None)
        self._ended.discard(slot)
        self.slots[slot] = Slot(SCORING, TokenLog(self.spec.streams))
        with exclusive(self.device):
            state = allocate(self._heard, mx.float32) | allocate(self._thought, self.dtype)
            self._lm.begin(state, self.slots[slot].options, conditions)
            evaluate(state)
        self.state[slot] = state

    def score(self, slots: Sequence[int], inputs: NDArray[np.int64], targets: NDArray[np.int64]) -> TokenScores:
        """Advance slots by known tokens, and score those."""
        if self.deterministic and len(slots) > 1:
            return scored_alone(self.score, slots, inputs, targets)
        for slot in slots:
            self.slots[slot].frames += inputs.shape[2]
        filled = max(self.slots[slot].frames for slot in slots)
        with exclusive(self.device):
            return score(self._lm, Call([self.state[slot] for slot in slots], filled), inputs, targets)

    def end_source(self, slot: int) -> None:
        """Let the slot's next step tell the model that the source has ended."""
        self._ended.add(slot)

    @property
    def delay_steps(self) -> int:
        """How many steps the sound of a model of synthesis comes after its text; 0 for others."""
        script = self._lm.script
        return script.settings.delay_steps if isinstance(script, SpeechScript) else 0

    def imitate(self, slot: int, codes: NDArray[np.int64]) -> None:
        """Let a slot that has just been opened go on from a voice, its codes int64 ``[agent_streams, n]``."""
        assert isinstance(self._lm.script, SpeechScript)
        with exclusive(self.device):
            self._lm.script.imitate(self.state[slot], self._lm.key, codes, self.slots[slot].options)
            evaluate(self.state[slot])

    def say(self, slot: int, entries: Sequence[Entry]) -> None:
        """Add to what a slot says."""
        assert isinstance(self._lm.script, SpeechScript)
        with exclusive(self.device):
            self._lm.script.say(self.state[slot], self._lm.key, entries)
            evaluate(self.state[slot])

    def export(self, slot: int) -> SessionState:
        """Return a slot's state."""
        return snapshot.export(self.slots[slot], self.state[slot], self.spec, self.origin, self.device)

    def restore(self, slot: int, state: SessionState) -> Iterator[None]:
        """Make a slot go on where ``state`` was taken, with its options, in pieces."""
        return each_within(functools.partial(exclusive, self.device), self._restored(slot, state))

    def _restored(self, slot: int, state: SessionState) -> Iterator[None]:
        with snapshots.checked(state.metadata, self.origin):
            exact = self.origin.made(state.metadata)
            known = checked_state(state, self.spec, self._positions, exact=exact)
            if isinstance(self._lm.script, SpeechScript):
                check_script(state.tensors, self._lm.script.settings, self.spec)
            yield from known.check_log(self.spec)
            self.open(slot, known.options, known.conditions)
            yield
            held = self.slots[slot]
            for tokens in () if exact else known.known_tokens(self.spec):
                yield from prefill(self._lm, self.state[slot], held, tokens, known.frames - held.frames)
            yield from snapshot.restore(self.state[slot], state, exact=exact)
            known.put(held, exact=exact)

    def stages(self, slots: Sequence[int]) -> Mapping[str, Callable[[], None]]:
        """Return each stage of a step on its own."""
        batch = [(self.slots[slot], self.state[slot]) for slot in slots]
        return stages(self._mimi, self._lm, batch, self.spec, self.device)

    def close(self) -> None:
        """Let go of weights and state; a codec that somebody still holds keeps its own."""
        self.state = []
        self._graph.cache_clear()
        del self._graph, self._lm, self._mimi, self.codec
        mx.clear_cache()

    def _step(self, batch: list[int], pcm: NDArray[np.float32], result: StepResult) -> None:
        """Advance the slots of ``batch``, in rising order, and put what comes out into ``result``."""
        slots = [self.slots[index] for index in batch]
        times = np.array([delays.time_step_of(slot.frames, self.spec.delays) for slot in slots])
        valid = times >= self.delay_steps  # what is not complete yet may hold no code at all
        complete = np.flatnonzero(valid).tolist() if self.spec.agent_streams else []
        frames = self._rounded(max(slot.frames for slot in slots) + 2)
        guided = guided_rows([self.state[index] for index in batch])
        ending = tuple(row for row, index in enumerate(batch) if index in self._ended)
        self._ended.difference_update(batch)
        shape = Shape(frames, tuple(complete), Sampling.of([slot.options for slot in slots]), guided, ending)
        # The old state is handed over whole: what nobody else holds, the new one is written into.
        found, voice, heads, states = self._graph(shape)(self._handed_over(batch), from_numpy(pcm[batch]))
        for index, state in zip(batch, states, strict=True):
            self.state[index] = state
        evaluate(found, voice, heads, states)
        tokens = to_numpy(found)
        if voice is not None:
            result.pcm[np.array(batch)[complete]] = to_numpy(voice)
        if heads is not None and result.heads is not None:
            result.heads[batch] = to_numpy(heads)
        if result.script is not None and isinstance(script := self._lm.script, SpeechScript):
            result.script[batch] = [script.progress(state, self._lm.key) for state in states]
        for row, slot in enumerate(slots):
            slot.frames += 1
            if times[row] >= 0:
                slot.log.append(tokens[row].astype(np.int64))
        result.valid[batch], result.time_step[batch], result.text[batch] = valid, times, tokens[:, 0]
        result.agent[batch], result.user[batch] = tokens[:, self._lm.agent], tokens[:, self._lm.user]

    def _handed_over(self, batch: list[int]) -> list[SlotState]:
        states = [self.state[index] for index in batch]
        for index in batch:
            self.state[index] = {}
        return states

    def _rounded(self, frames: int) -> int:
        """Return how far attention reads: as far as it must, or, compiled, to the next power of two."""
        return 1 << max(6, (frames - 1).bit_length()) if self.compiled else frames

    def _compile(self, shape: Shape) -> Advance:
        advance: Advance = functools.partial(compute_frame, self._mimi, self._lm, self.spec, shape)
        return mx.compile(advance) if self.compiled else advance
