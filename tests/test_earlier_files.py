"""Files that an earlier version wrote are read by this one, and mean the same (tests/data/earlier/README.md)."""

import json
import wave
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, load_file, save

import duplex
from duplex.process import decode_file

ROOT = Path(__file__).parent.parent
EARLIER = ROOT / "tests" / "data" / "earlier"
STATE = (EARLIER / "state.safetensors").read_bytes()
SAID = [(36, 268), (38, 283), (43, 267), (45, 532), (50, 263), (52, 588), (53, 260)]
"""What the earlier version said after the state: frames and text tokens."""
SILENCE = np.zeros(5 * 24000, np.float32)
pytestmark = [pytest.mark.anyio]


@pytest.fixture(scope="module")
def model():
    pytest.importorskip("torch")
    with duplex.load("tiny", backend="torch", device="cpu") as loaded:
        yield loaded


@pytest.fixture(scope="module")
def question():
    with wave.open(str(ROOT / "examples" / "question.wav")) as file:
        return np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768


async def tell(conversation):
    async with conversation:
        return [event async for event in conversation.run(SILENCE[:19200])]


async def test_a_conversation_goes_on_as_it_would_have(model, question):
    async with duplex.Conversation(model, state=STATE) as conversation:
        assert conversation.resume_at == 31 * 0.08
        rest = np.concatenate([question, SILENCE])[31 * 1920 :]
        said = [
            (round(event.at / 0.08), event.token)
            async for event in conversation.run(rest)
            if isinstance(event, duplex.AgentText)
        ]
    assert said == SAID


async def test_a_state_of_the_built_in_model_as_it_was_is_refused(model):
    state = (EARLIER / "state-of-another-voice.safetensors").read_bytes()
    with pytest.raises(duplex.StateError, match="taken from another checkpoint; load the same model, revision"):
        await tell(duplex.Conversation(model, state=state))


@pytest.mark.parametrize("version", ["0", "2", "next"])
async def test_a_state_of_another_format_is_refused_with_what_to_do(model, version):
    header = json.loads(STATE[8 : 8 + int.from_bytes(STATE[:8], "little")])["__metadata__"]
    other = save(load(STATE), {**header, "version": version})
    told = f"has format '{version}', and duplex {duplex.__version__} reads '1'; go on with the version that wrote it"
    with pytest.raises(duplex.StateError, match=told):
        await tell(duplex.Conversation(model, state=other))


async def test_tokens_are_a_history(model, question):
    tokens = load_file(EARLIER / "tokens.safetensors")
    history = np.concatenate([tokens["text"][None], tokens["agent"], tokens["user"]])
    assert history.shape == (model.spec.streams, question.size // 1920)
    events = await tell(duplex.Conversation(model, history=history))
    assert events[-1].reason == duplex.EndReason.FINISHED


def test_codes_are_decoded(tmp_path, model, question):
    written = load_file(EARLIER / "codes.safetensors")["codes"]
    assert np.array_equal(model.codec.encode(question), written)
    decoded = model.codec.decode(written)
    decode_file(model.codec, EARLIER / "codes.safetensors", tmp_path / "out.wav")
    assert (tmp_path / "out.wav").stat().st_size == 44 + 2 * decoded.size
