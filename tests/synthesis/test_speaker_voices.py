"""Voices of synthesis: files that are read, files that are none, and what a session is conditioned on."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from duplex.checkpoints.conditioning import ConditionerConfig
from duplex.errors import UsageError
from duplex.synthesis.voices import read_voice, speaker_conditions, voice_file

DIM = 12
SPEAKERS = {"speaker_wavs": ConditionerConfig(kind="tensor", dim=DIM)}
CFG = {"cfg": ConditionerConfig(kind="lut", dim=4, bins=2, values=("1.0", "1.5"))}
CONTROL = {"control": ConditionerConfig(kind="lut", dim=4, bins=1, values=("ok",))}


def vectors(length=5, value=1.0):
    return np.full((1, DIM, length), value, np.float32)


def test_voice_is_found_by_its_name(tmp_path):
    save_file({"speaker_wavs": vectors()}, tmp_path / "first.wav.1e68beda@240.safetensors")
    path = voice_file(tmp_path, "first.wav", "1e68beda", 240)
    assert read_voice(path, DIM).shape == (5, DIM)
    with pytest.raises(UsageError, match=r"no voice 'other'.*voices here: first\.wav"):
        voice_file(tmp_path, "other", "1e68beda", 240)
    with pytest.raises(UsageError, match="voices here: none"):
        voice_file(tmp_path, "first.wav", "1e68beda", 241)
    with pytest.raises(UsageError, match="no voice"):
        voice_file(tmp_path / "below", "../first.wav", "1e68beda", 240)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"other": vectors()}, "this is no voice"),
        ({"speaker_wavs": vectors(value=0)}, "silent"),
        ({"speaker_wavs": vectors(value=np.nan)}, "no number"),
        ({"speaker_wavs": vectors(126)}, "126 vectors; give one of 1 to 125"),
        ({"speaker_wavs": vectors()[:, :7]}, r"this model takes \[1, 12, n\]"),
        ({"speaker_wavs": vectors()[0]}, r"this model takes \[1, 12, n\]"),
    ],
)
def test_what_is_no_voice(tmp_path, tensors, message):
    save_file({name: tensor.copy() for name, tensor in tensors.items()}, tmp_path / "voice.safetensors")
    with pytest.raises(UsageError, match=message):
        read_voice(tmp_path / "voice.safetensors", DIM)


def test_a_file_that_is_no_safetensors(tmp_path):
    (tmp_path / "voice.wav").write_bytes(b"RIFF....WAVE")
    for name in ("voice.wav", "missing"):
        with pytest.raises(UsageError, match="cannot be read"):
            read_voice(tmp_path / name, DIM)


def test_two_voices_of_five():
    first, second = vectors()[0].T, vectors(value=2)[0].T
    given, guidance = speaker_conditions([first, second], SPEAKERS | CONTROL, guidance=2.0)
    assert (dict(given.words), guidance) == ({"control": "ok"}, 2.0)
    assert given.vectors["speaker_wavs"].shape == (25, DIM)
    np.testing.assert_array_equal(given.vectors["speaker_wavs"][:10], np.concatenate([first, second]))
    assert given.masks["speaker_wavs"].tolist() == [True] * 10 + [False] * 15


def test_guidance_that_a_model_was_trained_with():
    given, guidance = speaker_conditions([], SPEAKERS | CFG, guidance=1.5)
    assert (given.words["cfg"], guidance) == ("1.5", 1.0)
    with pytest.raises(UsageError, match=r"guidance is 7\.0, but this model knows 1\.0, 1\.5"):
        speaker_conditions([], SPEAKERS | CFG, guidance=7.0)


def test_voices_that_do_not_fit():
    voice = vectors()[0].T
    with pytest.raises(UsageError, match="takes no voices"):
        speaker_conditions([voice], CONTROL, guidance=1.0)
    for voices in ([voice] * 6, [voice, voice[:3]]):
        with pytest.raises(UsageError, match="at most 5 voices, all of one length"):
            speaker_conditions(voices, SPEAKERS, guidance=1.0)
