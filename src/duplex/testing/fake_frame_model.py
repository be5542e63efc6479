"""A dialogue model without weights: pure numpy, a fraction of a millisecond a frame, and as exact as a real one.

The agent says what the user says, at half the level, in the same time step: whoever wants to know whether frames came
out in time compares the two sample by sample. Its tokens are sampled with the contract's noise from scores that depend
on every token so far, so a token that is lost, added or seen in the wrong step changes all that follow.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.backends.shared import delays as delay_rules
from duplex.codec import CodecSpec
from duplex.errors import UsageError
from duplex.frame_model import (
    UNGENERATED,
    Conditions,
    ModelSpec,
    SessionState,
    StepResult,
    TokenScores,
)
from duplex.options import SessionOptions
from duplex.testing.fake_codec import FakeCodec
from duplex.testing.fake_slot import FakeSlot, saved, slot_of
from duplex.testing.fake_tokens import PADDING, WORD, token_scores, with_noise

__all__ = ["FakeFrameModel"]

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

_END_OF_PADDING = 0


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
            text_padding=PADDING,
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
        self._slots: dict[int, FakeSlot] = {}

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
        opened = self._slots[slot] = FakeSlot(options, ring)
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
        self._slots[slot] = FakeSlot(SessionOptions(), ring)

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
                held = self._slots[slot]
                thought = held.remember(read)
                for stream, wanted in enumerate(targets[row, :, step].tolist()):
                    scores = token_scores(thought, stream, self.spec)
                    if wanted != UNGENERATED:
                        likely[row, stream, step] = scores[wanted] - np.log(np.exp(scores).sum())
                        ranks[row, stream, step] = (scores > scores[wanted]).sum()
                    token = int(scores.argmax()) if wanted == UNGENERATED and stream == 0 else wanted
                    token = self._initial[stream] if token == UNGENERATED else token
                    text[row, step] = token if stream == 0 else text[row, step]
                    thought = (thought * 31 + int(token)) & WORD
                held.frames += 1
        return TokenScores(log_probabilities=likely, ranks=ranks, text=text)

    def export(self, slot: int) -> SessionState:
        """Return a slot's state; its arrays are copied when they are read."""
        return saved(self._slots[slot], self._fingerprint(), self.spec)

    def restore(self, slot: int, state: SessionState) -> Iterator[None]:
        """Make a slot go on where ``state`` was taken, in two pieces: the state is read, and put into the slot.

        :raises StateError: if it belongs to another model or is damaged
        """
        restored = slot_of(state, self._fingerprint(), self.spec)
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

    def _advance(self, held: FakeSlot, user: Int64, pcm: Float32) -> Float32 | None:
        """Let the user's next frame in, and run its step; return the user's audio of the time step that came out."""
        for stream, code in enumerate(user.tolist(), self._user.start):
            held.ring[stream, (held.frames + self.spec.delays[stream]) % self._ring_length] = code
        held.heard.append(np.array(pcm))
        held.frames += 1
        self._generate(held, step=held.frames)
        return held.heard.popleft() if len(held.heard) > self.spec.latency_frames else None

    def _generate(self, held: FakeSlot, step: int) -> None:
        """Read index ``step - 1`` of every stream, and write index ``step`` of the streams that are the model's."""
        spec, options = self.spec, held.options
        read = np.where(step <= self._delays, self._initial, held.ring[:, (step - 1) % self._ring_length])
        thought = held.remember(read)
        for stream in range(1 + spec.agent_streams):
            temperature = options.temperature if stream else options.text_temperature
            top_k = options.top_k if stream else options.text_top_k
            scores = token_scores(thought, stream, self.spec)
            noisy = with_noise(scores, temperature or 0, top_k or 0, (options.seed or 0, step, stream))
            token = held.known.pop((stream, step), int(noisy.argmax()))
            held.ring[stream, step % self._ring_length] = token
            thought = (thought * 31 + token) & WORD  # a codebook sees the ones before it

    def _fingerprint(self) -> str:
        same = attrs.evolve(self.spec, capacity=0)
        return hashlib.sha256(f"{same} {self._echo}".encode()).hexdigest()
