"""A voice is encoded once for all conversations that begin with it."""

import numpy as np
import pytest

from duplex.prompting.voices import VoiceCodes
from persona_support import FOLDER, GREEDY, USER, expected_tokens, persona_model, tokens_of  # noqa: F401

pytestmark = pytest.mark.anyio
WAV = FOLDER / "voices" / "voice.wav"


class Codec:
    def __init__(self):
        self.encoded = 0

    def encode(self, pcm):
        self.encoded += 1
        return np.full((8, 1), round(float(pcm[0])))


def test_the_samples_decide():
    codes, codec = VoiceCodes(), Codec()
    for level in (1, 2, 1, 2, 1):
        assert codes.encode(codec, np.full(1920, level, np.float32))[0, 0] == level
    assert codec.encoded == 2


def test_few_are_kept(monkeypatch):
    monkeypatch.setattr(VoiceCodes, "KEPT", 2)
    codes, codec = VoiceCodes(), Codec()
    for level in (1, 2, 1, 3, 1, 2):  # the one that was asked for last stays
        codes.encode(codec, np.full(1920, level, np.float32))
    assert codec.encoded == 4


async def test_the_second_conversation_encodes_nothing(persona_model, monkeypatch, tmp_path):
    encoded = []
    kind, encode = type(persona_model.codec), type(persona_model.codec).encode
    monkeypatch.setattr(kind, "encode", lambda codec, pcm: encoded.append(len(pcm)) or encode(codec, pcm))
    for name in ("first.wav", "second.wav"):
        (tmp_path / name).write_bytes(WAV.read_bytes())
        persona_model.voice_codes._kept.clear() if name == "first.wav" else None
        found = await tokens_of(persona_model, USER, voice=str(tmp_path / name), **GREEDY)
        np.testing.assert_array_equal(found[:, :36], expected_tokens())
    assert len(encoded) == 1
