"""A dialogue model without weights: pure numpy, a fraction of a millisecond a frame, and as exact as a real one.

The agent says what the user says, at half the level, in the same time step: whoever wants to know whether frames came
out in time compares the two sample by sample. Its tokens are sampled with the contract's noise from scores that depend
on every token so far, so a token that is lost, added or seen in the wrong step changes all that follow.
"""

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.backends.shared import delays as delay_rules
from duplex.backends.shared import noise
from duplex.backends.shared.slots import LONGEST_LIFE
from duplex.codec import CodecSpec
from duplex.errors import StateError, UsageError
from duplex.frame_model import (
    OPTIONS_KEY,
    UNGENERATED,
    ZERO,
    Conditions,
    ModelSpec,
    SessionState,
    StepResult,
    TokenScores,
)
from duplex.options import SessionOptions
from duplex.parsing import parse_json
from duplex.testing.fake_codec import FakeCodec

__all__ = ["FakeFrameModel"]

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

_WORD = (1 << 64) - 1
_END_OF_PADDING, _PADDING = 0, 3
_QUIET = 2.5
"""How much the fake prefers padding to a word."""
_FORMAT = "1"


@attrs.define(eq=False)
class _Slot:
    """One conversation's state."""

    options: SessionOptions
    ring: Int64
    """The last indices of the delayed sequences, ``[streams, ring_length]``."""
    memory: int = 0
    """What is left of all tokens that were read, 64 bits."""
    frames: int = 0
    heard: deque[Float32] = attrs.Factory(deque[Float32])
    """The user's frames whose time step has not come out."""
    known: dict[tuple[int, int], int] = attrs.Factory(dict[tuple[int, int], int])
    """Tokens that a prompt fixed for steps to come, by stream and index; until the next frame of audio."""


class FakeFrameModel:
    """A :class:`duplex.frame_model.FrameModel` for tests, exact in everything that the contract says of one.

    ``delays`` has one entry a stream, text, agent, user (left out: 0 for the text and each side's first codebook, 1 for
    the others). ``agent_streams`` may be 0, for a model that only listens. ``echo`` is the agent's level relative to
    the user's. ``step_seconds`` is how long each step takes on the wall clock.

    ``on_step`` is called on the inference thread with the number of each step, from 0, before it is done; ``on_open``
    with each slot that is opened. What they raise, the model raises; while they wait, the model is slow.

    >>> model = FakeFrameModel(capacity=2, delays=(0, 0, 2, 0, 2))
    >>> model.spec.latency_frames
    1
    """

    def __init__(  # noqa: PLR0913 -- keywords of a test double, one for each thing a test varies
        self,
        *,
        capacity: int = 1,
        delays: Sequence[int] | None = None,
        agent_streams: int = 2,
        user_streams: int = 2,
        text_vocabulary: int = 32,
        audio_vocabulary: int = 16,
        sample_rate: int = 24000,
        frame_size: int = 1920,
        echo: float = 0.5,
        step_seconds: float = 0.0,
        on_step: Callable[[int], object] | None = None,
        on_open: Callable[[int], object] | None = None,
    ) -> None:
        if delays is None:
            delays = [0, *(int(k > 0) for k in range(agent_streams)), *(int(k > 0) for k in range(user_streams))]
        if len(delays) != 1 + agent_streams + user_streams:
            raise UsageError(f"{len(delays)} delays for {1 + agent_streams + user_streams} streams; give one each")
        self.spec: ModelSpec = ModelSpec(
            sample_rate=sample_rate,
            frame_size=frame_size,
            text_streams=1,
            agent_streams=agent_streams,
            user_streams=user_streams,
            text_vocabulary=text_vocabulary,
            audio_vocabulary=audio_vocabulary,
            text_padding=_PADDING,
            text_end_of_padding=_END_OF_PADDING,
            delays=tuple(delays),
            context=250,
            capacity=capacity,
        )
        self.codec: FakeCodec = FakeCodec(
            CodecSpec(
                sample_rate=sample_rate,
                frame_size=frame_size,
                codebooks=max(agent_streams, user_streams),
                vocabulary=audio_vocabulary,
            )
        )
        self.steps: int = 0
        """Steps begun so far, those that raised included."""
        self.closed: bool = False
        self._echo = np.float32(echo)
        self._step_seconds = step_seconds
        self._on_step, self._on_open = on_step, on_open
        self._delays = np.array(delays)
        self._ring_length = delay_rules.ring_length(self.spec.delays)
        self._user = slice(1 + agent_streams, None)
        self._initial = np.array([text_vocabulary] + [audio_vocabulary] * (agent_streams + user_streams))
        self._slots: dict[int, _Slot] = {}

    def open(
        self,
        slot: int,
        options: SessionOptions,
        conditions: Conditions | None = None,  # noqa: ARG002 -- it has none
    ) -> None:
        """Reset a slot, set its options, and run the initial step."""
        if self._on_open is not None:
            self._on_open(slot)
        ring = np.full((self.spec.streams, self._ring_length), UNGENERATED, np.int64)
        opened = self._slots[slot] = _Slot(options, ring)
        self._generate(opened, step=0)

    def prefill(self, slot: int, tokens: Int64) -> None:
        """Advance a slot over known tokens, int64 ``[streams, n]``."""
        self.spec.check_tokens(tokens)
        held = self._slots[slot]
        for stream, column in np.argwhere(tokens[: self._user.start] != UNGENERATED).tolist():
            token, index = int(tokens[stream, column]), held.frames + column + self.spec.delays[stream]
            if index == held.frames:  # chosen ahead
                held.ring[stream, index % self._ring_length] = token
            else:
                held.known[stream, index] = token
        silence = np.zeros(self.spec.frame_size, np.float32)
        for heard in tokens[self._user].T:
            if (heard != UNGENERATED).all():
                self._advance(held, heard, silence)

    def step(self, pcm: Float32, active: NDArray[np.bool_]) -> StepResult:
        """Advance the slots where ``active`` by one frame."""
        self.steps += 1
        if self._on_step is not None:
            self._on_step(self.steps - 1)
        if self._step_seconds:
            time.sleep(self._step_seconds)
        spec = self.spec
        result = StepResult(
            valid=np.zeros(spec.capacity, np.bool_),
            time_step=np.zeros(spec.capacity, np.int64),
            pcm=np.zeros((spec.capacity, spec.frame_size), np.float32),
            text=np.zeros(spec.capacity, np.int64),
            agent=np.zeros((spec.capacity, spec.agent_streams), np.int64),
            user=np.zeros((spec.capacity, spec.user_streams), np.int64),
        )
        for slot in np.flatnonzero(active).tolist():
            try:
                self._step_slot(slot, pcm[slot], result)
            except Exception as error:  # noqa: BLE001 -- this slot's alone
                result.errors[slot] = error
        return result

    def open_for_scoring(
        self,
        slot: int,
        conditions: Conditions | None = None,  # noqa: ARG002 -- it has none
    ) -> None:
        """Reset a slot for :meth:`score`."""
        ring = np.full((self.spec.streams, self._ring_length), UNGENERATED, np.int64)
        self._slots[slot] = _Slot(SessionOptions(), ring)

    def score(self, slots: Sequence[int], inputs: Int64, targets: Int64) -> TokenScores:
        """Advance slots by known tokens, and score those."""
        self.steps += 1
        if self._on_step is not None:
            self._on_step(self.steps - 1)
        likely = np.full(targets.shape, np.nan, np.float32)
        ranks, text = np.full(targets.shape, -1, np.int64), np.zeros((len(slots), targets.shape[2]), np.int64)
        for row, slot in enumerate(slots):
            for step in range(targets.shape[2]):
                read = np.where(inputs[row, :, step] == UNGENERATED, self._initial, inputs[row, :, step])
                held, thought = self._slots[slot], self._remembered(self._slots[slot], read)
                for stream, wanted in enumerate(targets[row, :, step].tolist()):
                    scores = self._scores(thought, stream)
                    if wanted != UNGENERATED:
                        likely[row, stream, step] = scores[wanted] - np.log(np.exp(scores).sum())
                        ranks[row, stream, step] = (scores > scores[wanted]).sum()
                    token = int(scores.argmax()) if wanted == UNGENERATED and stream == 0 else wanted
                    token = self._initial[stream] if token == UNGENERATED else token
                    text[row, step] = token if stream == 0 else text[row, step]
                    thought = (thought * 31 + int(token)) & _WORD
                held.frames += 1
        return TokenScores(log_probabilities=likely, ranks=ranks, text=text)

    def export(self, slot: int) -> SessionState:
        """Return a slot's state; its arrays are copied when they are read."""
        held = self._slots[slot]
        metadata = {
            "version": _FORMAT,
            "backend": "fake",
            "fingerprint": self._fingerprint(),
            OPTIONS_KEY: held.options.to_json(),
        }
        heard = np.array(held.heard, np.float32).reshape(-1, self.spec.frame_size)
        known = [[*place, token] for place, token in held.known.items()]
        tensors: dict[str, NDArray[np.generic]] = {
            "ring": held.ring.copy(),
            "memory": np.array([held.memory], np.uint64),
            "frames": np.array([held.frames], np.int64),
            "heard": heard,
            "known": np.array(known, np.int64).reshape(-1, 3),
        }
        return SessionState(metadata=metadata, tensors=tensors)

    def restore(self, slot: int, state: SessionState) -> Iterator[None]:
        """Make a slot go on where ``state`` was taken, in two pieces: the state is read, and put into the slot.

        :raises StateError: if it belongs to another model or is damaged
        """
        if state.metadata.get("version") != _FORMAT or state.metadata.get("fingerprint") != self._fingerprint():
            raise StateError("the state was taken from another model; make one with the same options to go on")
        try:
            restored = self._restored(state)
        except (KeyError, ValueError, IndexError, TypeError, OverflowError) as error:
            raise StateError(f"the state is damaged ({error}); export it anew") from error
        yield
        self._slots[slot] = restored

    def close(self) -> None:
        """Forget everything."""
        self.closed = True
        self._slots.clear()

    def _step_slot(self, slot: int, pcm: Float32, result: StepResult) -> None:
        held = self._slots[slot]
        held.known.clear()
        completed = delay_rules.time_step_of(held.frames, self.spec.delays)
        spoken = self._advance(held, self.codec.codes(pcm)[: self.spec.user_streams, 0], pcm)
        places = (completed + self._delays) % self._ring_length
        tokens = held.ring[np.arange(len(places)), places]
        result.valid[slot], result.time_step[slot] = spoken is not None, completed
        if spoken is not None:
            result.text[slot] = tokens[0]
            result.agent[slot], result.user[slot] = tokens[1 : self._user.start], tokens[self._user]
            if self.spec.agent_streams:
                result.pcm[slot] = spoken * self._echo

    def _advance(self, held: _Slot, user: Int64, pcm: Float32) -> Float32 | None:
        """Let the user's next frame in, and run its step; return the user's audio of the time step that came out."""
        for stream, code in enumerate(user.tolist(), self._user.start):
            held.ring[stream, (held.frames + self.spec.delays[stream]) % self._ring_length] = code
        held.heard.append(np.array(pcm))
        held.frames += 1
        self._generate(held, step=held.frames)
        return held.heard.popleft() if len(held.heard) > self.spec.latency_frames else None

    def _generate(self, held: _Slot, step: int) -> None:
        """Read index ``step - 1`` of every stream, and write index ``step`` of the streams that are the model's."""
        spec, options = self.spec, held.options
        read = np.where(step <= self._delays, self._initial, held.ring[:, (step - 1) % self._ring_length])
        thought = self._remembered(held, read)
        for stream in range(1 + spec.agent_streams):
            temperature = options.temperature if stream else options.text_temperature
            top_k = options.top_k if stream else options.text_top_k
            scores = self._scores(thought, stream)
            noisy = _with_noise(scores, temperature or 0, top_k or 0, (options.seed or 0, step, stream))
            token = held.known.pop((stream, step), int(noisy.argmax()))
            held.ring[stream, step % self._ring_length] = token
            thought = (thought * 31 + token) & _WORD  # a codebook sees the ones before it

    @staticmethod
    def _remembered(held: _Slot, read: Int64) -> int:
        """Return what is left of all tokens so far, those that a step has just read included."""
        for token in read.tolist():
            held.memory = ((held.memory ^ (token + 3)) * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) & _WORD
        return held.memory

    def _scores(self, thought: int, stream: int) -> Float32:
        """Return the scores of a stream's tokens, float32 ``[vocabulary]``."""
        size = self.spec.audio_vocabulary if stream else self.spec.text_vocabulary
        scores = (4 * noise.uniform(thought, 0, stream, size)).astype(np.float32)
        if stream == 0:
            scores[_PADDING] += _QUIET
        return scores

    def _restored(self, state: SessionState) -> _Slot:
        tensors, spec = state.tensors, self.spec
        ring = cast("Int64", np.array(tensors["ring"])).reshape(spec.streams, self._ring_length)
        heard = np.array(tensors["heard"], np.float32).reshape(-1, spec.frame_size)
        known, frames = np.array(tensors["known"]).reshape(-1, 3), int(tensors["frames"][0])
        spec.check_tokens(ring)
        for stream, _, token in known.tolist():
            sizes = [spec.text_vocabulary] + [spec.audio_vocabulary] * spec.agent_streams
            if stream < 0 or not ZERO <= token < sizes[stream]:
                raise ValueError("a known token is out of range")
        if not 0 <= frames < LONGEST_LIFE or not np.isfinite(heard).all():
            raise ValueError("its numbers are out of range")
        options: dict[str, Any] = parse_json(state.metadata[OPTIONS_KEY])
        return _Slot(
            options=SessionOptions(**options),
            ring=ring,
            memory=int(tensors["memory"][0]) & _WORD,
            frames=frames,
            heard=deque(heard),
            known={(stream, index): token for stream, index, token in known.tolist()},
        )

    def _fingerprint(self) -> str:
        same = attrs.evolve(self.spec, capacity=0)
        return hashlib.sha256(f"{same} {self._echo}".encode()).hexdigest()


def _with_noise(scores: Float32, temperature: float, top_k: int, place: tuple[int, int, int]) -> Float32:
    """Return what the token is the argmax of (contract, section 2)."""
    if not temperature:
        return scores
    noisy = scores / np.float32(temperature) + noise.gumbel(*place, len(scores))
    if 0 < top_k < len(scores):
        noisy[scores < np.sort(scores)[-top_k]] = -np.inf
    return noisy
