"""The reference of PersonaPlex: a small random model, its voices, and what the published program made of it."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import duplex

FOLDER = Path(__file__).parent / "data" / "family" / "personaplex"
PROMPT = "You enjoy having a good conversation."
EXPECTED = load_file(FOLDER / "expected.safetensors")
USER = EXPECTED["user_pcm"].astype(np.float32) / 32768
GREEDY = {"greedy": True, "instructions": PROMPT}


@pytest.fixture(scope="module", params=["torch", "mlx"])
def persona_model(request):
    with duplex.load(str(FOLDER), backend=request.param, device="cpu", dtype="float32", sessions=3) as model:
        yield model


class Recorder(list):
    """Frames."""

    def record(self, frame):
        self.append(frame)

    @property
    def tokens(self):
        """int64 ``[streams, frames]``"""
        return np.array([[frame.text, *frame.agent, *frame.user] for frame in self]).T


def expected_tokens(columns=36):
    """What the published program said, whose first column is the prompt's last, and heard."""
    said = np.concatenate([EXPECTED["text"][None], EXPECTED["audio"]])[:, 1 : 1 + columns]
    return np.concatenate([said, EXPECTED["user_codes"][:, :columns]])


async def tokens_of(model, pcm=USER, **given):
    """Return the tokens of a conversation."""
    recorder = Recorder()
    chosen = {name: given.pop(name) for name in list(given) if name not in ("history", "voices", "state")}
    options = duplex.SessionOptions(**chosen)
    async with duplex.Conversation(model, options=options, recorder=recorder, **given) as conversation:
        async for _ in conversation.run(pcm):
            pass
    return recorder.tokens
