"""Saved conversations from somebody else: what is out of range is told to whoever brought it, and to nobody else."""

import json
from functools import cache

import anyio
import numpy as np
import pytest
from conversation_support import FRAME
from safetensors.numpy import load, save

import duplex
from duplex import AgentAudio, Conversation, SessionOptions
from duplex.conversation.saved import SavedConversation
from duplex.errors import StateError

FRAMES = 6
EVERY = SessionOptions(temperature=0.8, text_temperature=0.7, top_k=9, text_top_k=0, seed=3)
NUMBERS = ["-1", str(2**63 - 1), str(2**64), "9" * 5000, "1e400", "NaN", "Infinity", "", " 6", "6.0", "\u0666", "true"]


def noise(frames):
    return np.random.default_rng(0).normal(0, 0.1, frames * FRAME).astype(np.float32)


async def take(conversation, frames):
    count = 0
    async for event in conversation:
        count += isinstance(event, AgentAudio)
        if count == frames:
            return


@cache
def saved(backend):
    """A conversation on the smallest model, as its tensors and its metadata."""

    async def export():
        with duplex.load("tiny", backend=backend) as model:
            async with Conversation(model, options=EVERY) as conversation:
                await conversation.send(noise(FRAMES))
                await take(conversation, FRAMES)
                return await conversation.export()

    state = anyio.run(export)
    header = json.loads(state[8 : 8 + int.from_bytes(state[:8], "little")])
    return load(state), header["__metadata__"]


@pytest.fixture(scope="module", params=["torch", "mlx"])
def backend(request):
    if request.param == "mlx":
        pytest.importorskip("mlx.core")
    return request.param


@pytest.fixture(scope="module")
def model(backend):
    saved(backend)  # outside of any event loop
    with duplex.load("tiny", backend=backend, sessions=2) as loaded:
        yield loaded


def bytes_with(backend, tensors=(), metadata=()):
    had, said = saved(backend)
    changed = {name: np.array(tensor, order="C") for name, tensor in {**had, **dict(tensors)}.items()}
    return save(changed, {**said, **dict(metadata)})


def filled(value):
    return lambda tensor: np.full_like(tensor, value)


def one(value):
    """Only the last number is another."""

    def change(tensor):
        changed = np.array(tensor)
        changed.reshape(-1)[-1:] = value
        return changed

    return change


def as_type(dtype):
    return lambda tensor: tensor.astype(dtype)


TENSORS = [
    *[(name, filled(value)) for name in ("lm.tokens", "log") for value in (-3, 512, 900, 10**6, 2**31 - 1)],
    *[(name, one(value)) for name in ("lm.tokens", "log") for value in (900, -(2**31))],
    ("lm.tokens", filled(-2)),
    ("log", filled(-2)),
    ("log", lambda tensor: tensor[:-1]),
    ("log", lambda tensor: tensor[:, :-1]),
    ("lm.tokens", lambda tensor: tensor[:, :-1]),
    ("lm.tokens", as_type(np.float32)),
    *[("lm.step", filled(value)) for value in (-1, 0, FRAMES, 2**31, 2**62)],
    *[("lm.transformer.ring.position", filled(value)) for value in (-1, 2**31, FRAMES + 2)],
    *[("mimi.encoder_transformer.ring.position", filled(value)) for value in (-2, 1, 2**40, 2 * FRAMES + 2)],
    ("ahead", lambda _: np.full((17, 2), 10**6)),
    *[
        (name, one(value))
        for name in ("lm.transformer.ring.cache.2", "mimi.downsample.conv.previous")
        for value in (np.nan, -np.inf)
    ],
    ("mimi.upsample.convtr.previous", lambda tensor: tensor.astype(np.float64) * 1e300),
    ("mimi.downsample.conv.started", as_type(np.float32)),
    *[("seat.index", filled(value)) for value in (-1, 2**63 - 1, 2**41)],
    ("seat.index", lambda tensor: np.append(tensor, 3)),
    ("seat.pcm", lambda _: np.full((1, FRAME), np.nan, np.float32)),
    *[(f"session.{name}", one(value)) for name in ("turns", "counts") for value in (np.nan, np.inf, -1, 1e300)],
    ("session.counts", lambda _: np.array([2.0**39, 6, 0.48, 0])),
    ("session.counts", lambda _: np.array([15, 6, 3600.0, 0])),
    ("session.turns", lambda _: np.array([0, 11, 0, 0.0])),
    ("session.turns", lambda tensor: tensor[:3]),
    ("session.turns", as_type(np.int64)),
    ("session.agent.recent", lambda _: np.full((1, 2), np.nan)),
    ("session.agent.recent", lambda _: np.zeros((1000, 2))),
    ("session.text", lambda _: np.frombuffer(b"a" * 5000, np.uint8)),
    ("session.text", lambda _: np.array([0xFF], np.uint8)),
    *[(f"session.voice.{name}", one(value)) for name in ("memory", "context") for value in (np.nan, np.inf, 3e38)],
    ("session.voice.pending", lambda _: np.full(100, np.nan, np.float32)),
    ("session.voice.memory", lambda tensor: tensor[:, :5]),
]
METADATA = [
    *[(name, value) for name in ("frames", "sequence") for value in NUMBERS],
    *[("seed", value) for value in NUMBERS if value != str(2**63 - 1)],
    *[("ahead", value) for value in NUMBERS[1:]],  # -1 means none
    *[("frames", str(value)) for value in (0, FRAMES - 1, FRAMES + 1, 2**31)],
    *[("session_id", value) for value in ("", "../../etc", "a\0b", "x" * 1000, "a b")],
    *[("options", value) for value in ("", "[]", "5", "{}", "[" * 100_000, '{"seed": 1}', '{"wings": 1}')],
    *[
        ("options", json.dumps({"temperature": 1, "text_temperature": 1, "top_k": 1, "text_top_k": 1, "seed": 1} | bad))
        for bad in ({"top_k": 2**40}, {"seed": -1}, {"temperature": float("inf")}, {"seed": None}, {"top_k": True})
    ],
]


def test_unchanged_it_goes_on(backend, model):
    state = bytes_with(backend)

    async def main():
        async with Conversation(model, state=state) as conversation:
            await conversation.send(noise(2))
            await take(conversation, 2)

    anyio.run(main)


async def bring(model, state):
    with pytest.raises(StateError):
        async with Conversation(model, state=state) as conversation:
            async for _ in conversation.run(noise(2)):
                pass


@pytest.mark.parametrize("case", range(len(TENSORS)), ids=lambda case: f"{TENSORS[case][0]}-{case}")
def test_a_tensor_out_of_range(backend, model, case):
    name, change = TENSORS[case]
    state = bytes_with(backend, {name: change(saved(backend)[0][name])})
    anyio.run(bring, model, state)
    assert model.free == 2


@pytest.mark.parametrize("case", range(len(METADATA)), ids=lambda case: f"{METADATA[case][0]}-{case}")
def test_a_word_out_of_range(backend, model, case):
    anyio.run(bring, model, bytes_with(backend, metadata=[METADATA[case]]))
    assert model.free == 2


@pytest.mark.parametrize("elsewhere", [False, True], ids=["taken over", "rebuilt"])
@pytest.mark.anyio
async def test_neighbours_go_on(backend, model, elsewhere):
    """Also where the conversation is rebuilt from its log, as one of another backend is."""
    alone = [event.pcm async for event in _answers(model)]
    beside = []
    origin = {"backend": "another"} if elsewhere else {}
    async with Conversation(model, options=EVERY) as neighbour:
        for name in ("lm.tokens", "log"):
            await neighbour.send(noise(FRAMES)[len(beside) * FRAME : (len(beside) + 3) * FRAME])
            await bring(model, bytes_with(backend, {name: np.full_like(saved(backend)[0][name], 10**6)}, origin))
            async for event in neighbour:
                beside += [event.pcm] if isinstance(event, AgentAudio) else []
                if isinstance(event, AgentAudio) and len(beside) % 3 == 0:
                    break
    assert np.allclose(np.concatenate(beside), np.concatenate(alone), atol=1e-4)


async def _answers(model):
    async with Conversation(model, options=EVERY) as conversation:
        async for event in conversation.run(noise(FRAMES)):
            if isinstance(event, AgentAudio):
                yield event


def test_bytes_of_random_damage(backend):
    state, random = bytes_with(backend), np.random.default_rng(0)
    header = int.from_bytes(state[:8], "little")
    for _ in range(300):
        damaged = bytearray(state)
        for place in random.integers(0, header + 8, 3):
            damaged[place] = random.integers(0, 256)
        try:
            SavedConversation.from_bytes(damaged)
        except StateError as error:
            assert "export it anew" in str(error)  # noqa: PT017 -- some are taken: a letter of a name, say
