"""What sessions share of their beginnings: what is the same for all of them, computed once."""

import anyio
import numpy as np
import pytest

from duplex.frame_model import UNGENERATED
from persona_support import EXPECTED, GREEDY, expected_tokens, persona_model, tokens_of  # noqa: F401

pytestmark = pytest.mark.anyio


async def test_what_a_history_leaves_to_choose_is_each_sessions_own(persona_model):
    history = EXPECTED["prompt"][:, 1:].copy()
    history[:9, 6:] = UNGENERATED
    first = await tokens_of(persona_model, history=history, seed=2, temperature=1.0)
    await tokens_of(persona_model, history=history, seed=1, temperature=1.0)
    np.testing.assert_array_equal(await tokens_of(persona_model, history=history, seed=2, temperature=1.0), first)


async def test_sessions_that_begin_together_feed_their_prompt_once(persona_model, monkeypatch, anyio_backend_name):
    fed, found = [], []
    prefill = persona_model.frame_model.prefill

    def counted(slot, tokens):
        fed.append(tokens.shape[1])
        prefill(slot, tokens)

    monkeypatch.setattr(persona_model.frame_model, "prefill", counted)

    async def hold():
        options = {**GREEDY, "instructions": f"You are fond of {anyio_backend_name}."}
        found.append(await tokens_of(persona_model, voice="voice.wav", **options))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(hold)
    assert fed.count(1) == 3
    assert len([columns for columns in fed if columns > 1]) == 2
    assert all(np.array_equal(tokens, found[0]) for tokens in found)
