"""The torch implementation of :class:`duplex.frame_model.FrameModel`.

A step computes the slots that have a frame, side by side, and no others: it costs what they cost, however many slots
there are. With ``deterministic`` every slot is stepped alone, in the shape of one row, so that neither neighbours nor
the slot's number can change a rounding. A step is one straight run over preallocated tensors: encode, temporal
transformer, text, depth transformer, decode; the host puts the audio in and takes audio and tokens out.
"""

import functools
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from duplex.backends.shared import delays, snapshots
from duplex.backends.shared.model_spec import empty_result, model_spec
from duplex.backends.shared.pieces import each_within, finish
from duplex.backends.shared.prefilling import check_inputs
from duplex.backends.shared.scoring import SCORING, check_scoring, scored_alone
from duplex.backends.shared.script_state import check_script
from duplex.backends.shared.snapshots import Origin
from duplex.backends.shared.state_checks import checked_state
from duplex.backends.torch import kernels, snapshot
from duplex.backends.torch.codec import TorchCodec
from duplex.backends.torch.cores import cores, steps_on_one_core
from duplex.backends.torch.frame import unheard
from duplex.backends.torch.frame_steps import FrameSteps
from duplex.backends.torch.language_model import ENDED, HEADS, LanguageModel
from duplex.backends.torch.mimi import Mimi
from duplex.backends.torch.prefill import LONGEST_RUN, prefill, prefill_embedded
from duplex.backends.torch.sampling import Sampling
from duplex.backends.torch.scoring import score
from duplex.backends.torch.speech_script import SpeechScript
from duplex.backends.torch.stages import stages
from duplex.backends.torch.state import Call, Rows, Slot, SlotState, TokenLog, bind
from duplex.frame_model import Conditions, ModelSpec, SessionState, StepResult, TokenScores
from duplex.options import SessionOptions
from duplex.synthesis.script import Entry

__all__ = ["TorchFrameModel"]


class TorchFrameModel:
    """Mimi and the language model over ``sessions`` slots, on one device."""

    def __init__(
        self,
        mimi: Mimi,
        language_model: LanguageModel,
        *,
        sessions: int,
        deterministic: bool,
        fingerprint: str,
        products: Mapping[str, str] | None = None,
    ) -> None:
        config = language_model.config
        weight = language_model.text_linear.weight
        self.codec: TorchCodec = TorchCodec(mimi)
        self.deterministic = deterministic
        self.device: torch.device = weight.device
        self.dtype: torch.dtype = weight.dtype
        bits = f", {language_model.quantized} weights" if language_model.quantized else ""
        bits += ", int8 cache" if language_model.transformer.ring.quantized else ""
        bits += ", guided" if language_model.guided else ""
        self.products: Mapping[str, str] = products or {}
        """The layouts that were chosen for its weights on a CPU, by product."""
        self.adapters: Mapping[str, str] = language_model.adapters.fingerprints if language_model.adapters else {}
        self.origin: Origin = Origin("torch", f"{weight.dtype}{bits}", fingerprint, self.products, self.adapters)
        self.spec: ModelSpec = model_spec(config, self.codec.spec, sessions=sessions)
        self._mimi = mimi
        self._lm = language_model
        mimi.quantizer.partial = language_model.script is not None
        self._one_core = self.device.type == "cpu" and steps_on_one_core(language_model.size)
        rings = (mimi.encoder_transformer.ring, mimi.decoder_transformer.ring, language_model.transformer.ring)
        graphed = kernels.apply_to_device(self.device) and all(ring.fits_kernels for ring in rings)
        self.state: SlotState = self._allocate(sessions, spare=int(graphed))
        self._positions = {f"{ring.key}.position": ring.per_frame for ring in rings}
        self._ended: set[int] = set()
        """Slots whose next step ends the source."""
        self.slots: list[Slot] = [Slot(SessionOptions(), TokenLog(self.spec.streams)) for _ in range(sessions)]
        self.steps: FrameSteps = FrameSteps(mimi, language_model, self.state, self.spec, graphed=graphed)

    @torch.inference_mode()
    def open(self, slot: int, options: SessionOptions, conditions: Conditions | None = None) -> None:
        """Reset a slot, set its options and conditions, and run the initial step."""
        rows = self.state.rows(slot, slot + 1)
        rows.reset()
        self._ended.discard(slot)
        sampling = Sampling.of([options])
        with self._cores():
            self.steps.prepare(sampling, slot)
            self.slots[slot] = Slot(options, TokenLog(self.spec.streams), conditions=conditions)
            call = Call(rows, filled=1)
            self._lm.begin(call, options, conditions)
            if isinstance(self._lm.script, SpeechScript):
                self._lm.script.begin(rows, self._lm.key, streams=options.codebooks)
            self._lm(None, call, sampling)

    @torch.inference_mode()
    def step(self, pcm: NDArray[np.float32], active: NDArray[np.bool_]) -> StepResult:
        """Advance the slots where ``active`` by one frame."""
        result = empty_result(self.spec, scripted=self._lm.script is not None)
        slots = [slot for slot, runs in enumerate(active) if runs]
        ending = self._ended.intersection(slots)
        self._ended -= ending
        with self._cores(), unheard(self.state, ending):
            if not self.deterministic:
                if slots:
                    self._step(slots, pcm[slots], result)
                return result
            for slot in slots:
                try:
                    self._step([slot], pcm[[slot]], result)
                except Exception as error:  # noqa: BLE001 -- this slot's alone
                    result.errors[slot] = error
        return result

    @torch.inference_mode()
    def prefill(self, slot: int, tokens: NDArray[np.int64]) -> None:
        """Advance a slot over known tokens, int64 ``[streams, n]``."""
        self.spec.check_tokens(tokens)
        rows, held = self.state.rows(slot, slot + 1), self.slots[slot]
        before = len(held.log.columns)
        with self._cores():
            finish(prefill(self._lm, rows, held, tokens))
            if self._lm.script is not None:  # the sound goes on from what has been said
                for column in held.log.columns[max(before, self.delay_steps) :]:
                    codes = torch.as_tensor(column[self._lm.agent].astype(np.int64)).to(self.device)
                    self._mimi.decode(codes[None, :, None], Call(rows))

    def prefill_embedded(self, slot: int, inputs: NDArray[np.float32], tokens: NDArray[np.int64]) -> Iterator[None]:
        """Advance a slot over columns of which the sums of embeddings are known, in pieces."""
        check_inputs(inputs, tokens, self.spec, self._lm.config.dim)
        return each_within(
            self._computing,
            prefill_embedded(self._lm, self.state.rows(slot, slot + 1), self.slots[slot], inputs, tokens),
        )

    @torch.inference_mode()
    def open_for_scoring(self, slot: int, conditions: Conditions | None = None) -> None:
        """Reset a slot for :meth:`score`."""
        check_scoring(guided=self._lm.guided, scripted=self._lm.script is not None)
        rows = self.state.rows(slot, slot + 1)
        rows.reset()
        self._ended.discard(slot)
        self.slots[slot] = Slot(SCORING, TokenLog(self.spec.streams))
        with self._cores():
            self._lm.begin(Call(rows, filled=1), self.slots[slot].options, conditions)

    @torch.inference_mode()
    def score(self, slots: Sequence[int], inputs: NDArray[np.int64], targets: NDArray[np.int64]) -> TokenScores:
        """Advance slots by known tokens, and score those."""
        if self.deterministic and len(slots) > 1:
            return scored_alone(self.score, slots, inputs, targets)
        for slot in slots:
            self.slots[slot].frames += inputs.shape[2]
        filled = max(self.slots[slot].frames for slot in slots)
        with self._cores():
            return score(self._lm, Call(self.state, Rows.of(slots, self.device), filled), inputs, targets)

    @torch.inference_mode()
    def end_source(self, slot: int) -> None:
        """Let the slot's next step tell the model that the source has ended."""
        self.state.tensors[f"{self._lm.key}.{ENDED}"][slot] = 1
        self._ended.add(slot)

    @property
    def delay_steps(self) -> int:
        """How many steps the sound of a model of synthesis comes after its text; 0 for others."""
        script = self._lm.script
        return script.settings.delay_steps if isinstance(script, SpeechScript) else 0

    @torch.inference_mode()
    def imitate(self, slot: int, codes: NDArray[np.int64]) -> None:
        """Let a slot that has just been opened go on from a voice, its codes int64 ``[agent_streams, n]``."""
        assert isinstance(self._lm.script, SpeechScript)
        self._lm.script.imitate(self.state.rows(slot, slot + 1), self._lm.key, codes, self.slots[slot].options)

    @torch.inference_mode()
    def say(self, slot: int, entries: Sequence[Entry]) -> None:
        """Add to what a slot says."""
        assert isinstance(self._lm.script, SpeechScript)
        self._lm.script.say(self.state.rows(slot, slot + 1), self._lm.key, entries)

    def export(self, slot: int) -> SessionState:
        """Return a slot's state."""
        return snapshot.export(self.slots[slot], self.state.rows(slot, slot + 1), self.spec, self.origin)

    def restore(self, slot: int, state: SessionState) -> Iterator[None]:
        """Make a slot go on where ``state`` was taken, with its options, in pieces."""
        return each_within(self._computing, self._restored(slot, state))

    def _restored(self, slot: int, state: SessionState) -> Iterator[None]:
        with snapshots.checked(state.metadata, self.origin):
            exact = self.origin.made(state.metadata)
            known = checked_state(state, self.spec, self._positions, exact=exact)
            if isinstance(self._lm.script, SpeechScript):
                check_script(state.tensors, self._lm.script.settings, self.spec)
            yield from known.check_log(self.spec)
            self.open(slot, self.origin.options(known.options, state.metadata), known.conditions)
            yield
            rows, held = self.state.rows(slot, slot + 1), self.slots[slot]
            for tokens in () if exact else known.known_tokens(self.spec):
                yield from prefill(self._lm, rows, held, tokens, known.frames - held.frames)
            yield from snapshot.restore(rows, state, exact=exact)
            known.put(held, exact=exact)

    def stages(self, slots: Sequence[int]) -> Mapping[str, Callable[[], None]]:
        """Return each stage of a step on its own."""
        found = stages(self._mimi, self._lm, self.state, {slot: self.slots[slot] for slot in slots}, self.spec)
        return {name: functools.partial(self._run_stage, stage) for name, stage in found.items()}

    def close(self) -> None:
        """Let go of weights and state; a codec that somebody still holds keeps its own."""
        self.state = SlotState({})
        del self._lm, self._mimi, self.codec, self.steps

    def _run_stage(self, stage: Callable[[], None]) -> None:
        with self._cores():
            stage()

    @contextmanager
    def _computing(self) -> Generator[None]:
        with torch.inference_mode(), self._cores():
            yield

    def _cores(self) -> AbstractContextManager[None]:
        """Keep a small model's steps on one core."""
        return cores(1 if self._one_core else None)

    @torch.inference_mode()
    def _allocate(self, slots: int, spare: int) -> SlotState:
        declared = bind(self._mimi, "mimi")
        heard = SlotState.allocate(declared, slots, dtype=torch.float32, device=self.device, spare=spare)
        declared = bind(self._lm, "lm", LONGEST_RUN)
        thought = SlotState.allocate(declared, slots, dtype=self.dtype, device=self.device, spare=spare)
        return SlotState(heard.tensors | thought.tensors)

    def _step(self, batch: list[int], heard: NDArray[np.float32], result: StepResult) -> None:
        """Advance the slots of ``batch``, in rising order, and put what comes out into ``result``."""
        slots = [self.slots[index] for index in batch]
        times = np.array([delays.time_step_of(slot.frames, self.spec.delays) for slot in slots])
        valid = times >= self.delay_steps  # what is not complete yet may hold no code at all
        sampling = Sampling.of([slot.options for slot in slots])
        tokens, voice = self.steps.run(batch, heard, valid, sampling, max(slot.frames for slot in slots))
        for row, slot in enumerate(slots):
            slot.frames += 1
            if times[row] >= 0:
                slot.log.append(tokens[row])
        result.pcm[[slot for slot, done in zip(batch, valid, strict=True) if done]] = voice
        result.valid[batch], result.time_step[batch], result.text[batch] = valid, times, tokens[:, 0]
        if result.heads is not None:
            result.heads[batch] = self.state.tensors[f"{self._lm.key}.{HEADS}"][batch].cpu().numpy()
        if result.script is not None and isinstance(self._lm.script, SpeechScript):
            result.script[batch] = self._lm.script.progress(self.state, self._lm.key)[batch].cpu().numpy()
        result.agent[batch], result.user[batch] = tokens[:, self._lm.agent], tokens[:, self._lm.user]
