"""The torch implementation of :class:`duplex.frame_model.FrameModel`.

A step computes the slots that have a frame, side by side, and no others: it costs what they cost, however many slots
there are. With ``deterministic`` every slot is stepped alone, in the shape of one row, so that neither neighbours nor
the slot's number can change a rounding. A step is one straight run over preallocated tensors: encode, temporal
transformer, text, depth transformer, decode; the host puts the audio in and takes audio and tokens out.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from duplex import delays
from duplex.backends.torch import snapshot
from duplex.backends.torch.codec import TorchCodec
from duplex.backends.torch.language_model import LanguageModel
from duplex.backends.torch.mimi import Mimi
from duplex.backends.torch.prefill import LONGEST_RUN, prefill
from duplex.backends.torch.state import Call, Rows, Slot, SlotState, TokenLog, bind
from duplex.frame_model import ModelSpec, SessionOptions, SessionState, StepResult

__all__ = ["TorchFrameModel"]


class TorchFrameModel:
    """Mimi and the language model over ``sessions`` slots, on one device."""

    SMALL = 64_000_000
    """Weights below which a CPU step is too short to be shared: the cores would wait for each other, not compute."""

    def __init__(
        self, mimi: Mimi, language_model: LanguageModel, *, sessions: int, deterministic: bool, fingerprint: str
    ) -> None:
        config = language_model.config
        weight = language_model.text_linear.weight
        self.codec = TorchCodec(mimi)
        self.deterministic = deterministic
        self.fingerprint = fingerprint
        self.device, self.dtype = weight.device, weight.dtype
        self.spec = ModelSpec(
            sample_rate=self.codec.spec.sample_rate,
            frame_size=self.codec.spec.frame_size,
            text_streams=1,
            agent_streams=config.agent_streams,
            user_streams=config.user_streams,
            text_vocabulary=config.text_card,
            audio_vocabulary=config.card,
            text_padding=config.existing_text_padding_id,
            text_end_of_padding=config.existing_text_end_padding_id,
            delays=config.delays,
            context=config.context,
            capacity=sessions,
        )
        self._mimi = mimi
        self._lm = language_model
        weights = sum(parameter.numel() for parameter in language_model.parameters())
        self._one_core = self.device.type == "cpu" and weights < self.SMALL
        with torch.inference_mode():
            heard = SlotState.allocate(bind(mimi, "mimi"), sessions, dtype=torch.float32, device=self.device)
            thought = SlotState.allocate(
                bind(language_model, "lm", LONGEST_RUN), sessions, dtype=self.dtype, device=self.device
            )
        self.state = SlotState(heard.tensors | thought.tensors)
        self.slots = [Slot(SessionOptions(), TokenLog(self.spec.streams)) for _ in range(sessions)]

    @torch.inference_mode()
    def open(self, slot: int, options: SessionOptions) -> None:
        """Reset a slot, set its options, and run the initial step."""
        self._settle_threads()
        rows = self.state.rows(slot, slot + 1)
        rows.reset()
        self.slots[slot] = Slot(options, TokenLog(self.spec.streams))
        call = Call(rows, filled=1)
        self._lm.begin(call, options)
        self._lm(None, call, [options])

    @torch.inference_mode()
    def step(self, pcm: NDArray[np.float32], active: NDArray[np.bool_]) -> StepResult:
        """Advance the slots where ``active`` by one frame."""
        spec = self.spec
        result = StepResult(
            valid=np.zeros(spec.capacity, np.bool_),
            time_step=np.zeros(spec.capacity, np.int64),
            pcm=np.zeros((spec.capacity, spec.frame_size), np.float32),
            text=np.zeros(spec.capacity, np.int64),
            agent=np.zeros((spec.capacity, spec.agent_streams), np.int64),
            user=np.zeros((spec.capacity, spec.user_streams), np.int64),
        )
        slots = [slot for slot, runs in enumerate(active) if runs]
        for batch in [[slot] for slot in slots] if self.deterministic else [slots] if slots else []:
            self._step(batch, pcm, result)
        return result

    @torch.inference_mode()
    def prefill(self, slot: int, tokens: NDArray[np.int64]) -> None:
        """Advance a slot over known tokens, int64 ``[streams, n]``."""
        self.slots[slot].frames = prefill(self._lm, self.state.rows(slot, slot + 1), self.slots[slot], tokens)

    def export(self, slot: int) -> SessionState:
        """Return a slot's state."""
        return snapshot.export(self, slot)

    @torch.inference_mode()
    def restore(self, slot: int, state: SessionState) -> None:
        """Make a slot go on where ``state`` was taken, with its options."""
        snapshot.restore(self, slot, state)

    def close(self) -> None:
        """Let go of weights and state; a codec that somebody still holds keeps its own."""
        self.state = SlotState({})
        del self._lm, self._mimi, self.codec

    def _settle_threads(self) -> None:
        """Keep a small model's steps on one core. torch's setting is the calling thread's: the one that steps."""
        if self._one_core and torch.get_num_threads() != 1:
            torch.set_num_threads(1)

    def _step(self, batch: list[int], pcm: NDArray[np.float32], result: StepResult) -> None:
        """Advance the slots of ``batch``, in rising order, and put what comes out into ``result``."""
        rows, slots = Rows.of(batch, self.device), [self.slots[index] for index in batch]
        filled = max(slot.frames for slot in slots)
        heard = torch.as_tensor(pcm[batch]).to(self.device)
        codes = self._mimi.encode(heard, Call(self.state, rows, filled + 1))
        options = [slot.options for slot in slots]
        step = self._lm(codes[:, : self.spec.user_streams, 0], Call(self.state, rows, filled + 2), options)
        times = np.array([delays.time_step_of(slot.frames, self.spec.delays) for slot in slots])
        valid = times >= 0
        if self.spec.agent_streams and valid.any():  # what is not complete yet may hold no code at all
            complete = [slot for slot, done in zip(batch, valid, strict=True) if done]
            spoken = step.tokens[torch.as_tensor(valid).to(self.device), self._lm.agent, None]
            voice = self._mimi.decode(spoken, Call(self.state, Rows.of(complete, self.device), filled + 1))
            result.pcm[complete] = voice.cpu().numpy()
        tokens = step.tokens.cpu().numpy()
        for row, slot in enumerate(slots):
            slot.frames += 1
            if valid[row]:
                slot.log.append(tokens[row])
        result.valid[batch], result.time_step[batch], result.text[batch] = valid, times, tokens[:, 0]
        result.agent[batch], result.user[batch] = tokens[:, self._lm.agent], tokens[:, self._lm.user]
