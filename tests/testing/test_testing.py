"""The fake model conforms to its own suite, and the suite finds what is wrong with others."""

import numpy as np
import pytest

from duplex.frame_model import StepResult
from duplex.testing import FakeCodec, FakeFrameModel, check_frame_model

SHAPES = [
    {},
    {"delays": (0, 0, 2, 0, 2)},
    {"delays": (0, 0, 0, 0, 0)},
    {"delays": (0, 1, 3, 0, 2)},
    {"agent_streams": 0, "user_streams": 3},
    {"agent_streams": 4, "user_streams": 1},
]


@pytest.mark.parametrize("options", SHAPES, ids=str)
def test_the_fake_conforms(options):
    check_frame_model(lambda capacity: FakeFrameModel(capacity=capacity, **options))


def test_the_codec_inverts_itself():
    codec = FakeFrameModel(agent_streams=3).codec
    codes = np.random.default_rng(0).integers(0, 16, (3, 50))
    assert np.array_equal(codec.encode(codec.decode(codes)), codes)


class Leaky(FakeFrameModel):
    """Its slots share a memory."""

    def step(self, pcm, active):
        result = super().step(pcm, active)
        for slot in self._slots.values():
            slot.memory ^= int(active.sum()) - 1
        return result


class Early(FakeFrameModel):
    """Counts time steps from 1."""

    def step(self, pcm, active):
        result = super().step(pcm, active)
        result.time_step[:] += 1
        return result


class Forgetful(FakeFrameModel):
    """Does not restore what it was doing."""

    def restore(self, slot, state):
        yield from super().restore(slot, state)
        self._slots[slot].memory = 0


class Unclean(FakeFrameModel):
    """Opens a slot without forgetting the last conversation."""

    def open(self, slot, options, conditions=None):  # noqa: ARG002 -- it has none
        memory = self._slots[slot].memory if slot in self._slots else 0
        super().open(slot, options)
        self._slots[slot].memory ^= memory


class Narrow(FakeFrameModel):
    """Forgets the slot axis of the text."""

    def step(self, pcm, active):
        result = super().step(pcm, active)
        fields = {name: getattr(result, name) for name in ("valid", "time_step", "pcm", "agent", "user")}
        return StepResult(**fields, text=result.text[:, None])


class Restless(FakeFrameModel):
    """Moves slots that have no frame."""

    def step(self, pcm, active):
        for slot, held in self._slots.items():
            if not active[slot] and active.any():
                held.memory += 1
        return super().step(pcm, active)


class Piecemeal(FakeFrameModel):
    """Forgets a prompt's known tokens at the end of each piece."""

    def prefill(self, slot, tokens):
        super().prefill(slot, tokens)
        self._slots[slot].known.clear()


class Careless(FakeFrameModel):
    """Takes any state for a good one."""

    def restore(self, slot, state):
        if state.tensors:
            yield from super().restore(slot, state)


class Hasty(FakeFrameModel):
    """Restores at once, and lets no neighbour in."""

    def restore(self, slot, state):
        for _ in super().restore(slot, state):
            pass


class Distracted(FakeFrameModel):
    """Restores something else if a neighbour is stepped meanwhile."""

    def restore(self, slot, state):
        steps = self.steps
        yield from super().restore(slot, state)
        self._slots[slot].memory += self.steps - steps


class Lingering(FakeFrameModel):
    """Goes on with a restore that was given up, in the slot's next conversation."""

    def restore(self, slot, state):
        try:
            yield from super().restore(slot, state)
        except GeneratorExit:
            self.left = slot
            raise

    def open(self, slot, options, conditions=None):  # noqa: ARG002 -- it has none
        super().open(slot, options)
        if getattr(self, "left", None) == slot:
            self._slots[slot].memory += 1


class OffByOne(FakeCodec):
    def stream(self):
        stream = super().stream()
        stream.encode = lambda pcm: (FakeCodec.encode(self, pcm) + 1) % self.spec.vocabulary
        return stream


class OtherCodec(FakeFrameModel):
    """Its codec streams other codes."""

    def __init__(self, **options):
        super().__init__(**options)
        self.codec = OffByOne(self.codec.spec)


@pytest.mark.parametrize(
    ("kind", "options", "complaint"),
    [
        (Leaky, {}, "neighbours"),
        (Early, {}, "time steps 0 to"),
        (Forgetful, {}, "restored"),
        (Unclean, {}, "again"),
        (Narrow, {}, "result.text"),
        (Restless, {}, "neighbours"),
        (Piecemeal, {"delays": (0, 0, 2, 0, 2)}, "pieces"),
        (Careless, {}, "StateError"),
        (Hasty, {}, "not an iterator"),
        (Distracted, {}, "restored while"),
        (Lingering, {}, "not been run to its end"),
        (OtherCodec, {}, "frame by frame"),
    ],
)
def test_the_suite_finds_faults(kind, options, complaint):
    with pytest.raises(AssertionError, match=complaint):
        check_frame_model(lambda capacity: kind(capacity=capacity, **options))
