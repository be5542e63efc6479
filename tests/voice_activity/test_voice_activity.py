"""The detector in numpy is the published network, and hears real speech."""

import warnings
import wave
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from duplex.audio.pcm import Resampler, as_mono_float32
from duplex.conversation.turns import UserTurns
from duplex.errors import StateError
from duplex.frame_model import Frame
from duplex.voice_activity.silero import SileroVoiceActivity
from duplex.voice_activity.silero_network import SileroNetwork

SPEECH = Path(__file__).parents[2] / "examples" / "question.wav"
PUBLISHED = Path(find_spec("silero_vad").origin).parent / "data"
NAMES = {
    "encoder.0.reparam_conv": "conv1",
    "encoder.1.reparam_conv": "conv2",
    "encoder.2.reparam_conv": "conv3",
    "encoder.3.reparam_conv": "conv4",
    "decoder.rnn.": "lstm_cell.",
    "decoder.decoder.2": "final_conv",
    "stft.forward_basis_buffer": "stft_conv.weight",
}


def frame(pcm):
    empty = np.zeros(0, np.int64)
    return Frame(at=0.0, user_pcm=pcm.astype(np.float32), agent_pcm=None, text=0, agent=empty, user=empty)


def frames(pcm, size=1920):
    return [frame(pcm[start : start + size]) for start in range(0, len(pcm), size)]


def renamed(name):
    for theirs, ours in NAMES.items():
        name = name.replace(theirs, ours)
    return name


@pytest.fixture(scope="module")
def torchscript():
    with warnings.catch_warnings():
        for kind in (DeprecationWarning, FutureWarning):  # torch's own, of TorchScript
            warnings.simplefilter("ignore", kind)
        return torch.jit.load(PUBLISHED / "silero_vad.jit")


@pytest.fixture(scope="module")
def speech():
    with wave.open(str(SPEECH)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (24000, 1, 2)
        return as_mono_float32(np.frombuffer(file.readframes(file.getnframes()), np.int16))


def test_the_network_is_silero_s_own(torchscript, speech):
    """Compared on the TorchScript model's weights: its package ships the same network with other digits."""
    inner = torchscript._model
    tensors = {**dict(inner.named_parameters()), **dict(inner.named_buffers())}
    network = SileroNetwork({renamed(name): tensor.detach().numpy() for name, tensor in tensors.items()})
    resampler = Resampler(24000, 16000)
    loud = np.concatenate([resampler.push(speech), np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)])
    whole = loud[: len(loud) // 512 * 512].astype(np.float32)
    torchscript.reset_states()
    with torch.no_grad():
        expected = [float(torchscript(torch.from_numpy(window.copy()), 16000)) for window in whole.reshape(-1, 512)]
    found = SileroVoiceActivity(16000, network).hear(frame(whole))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert max(expected) > 0.9


def turns_of(pcm, rate=24000):
    voice, turns = SileroVoiceActivity(rate), UserTurns()
    probabilities = [p for each in frames(pcm, rate * 2 // 25) for p in voice.hear(each)]
    found = [turns.update(p, i * voice.window) for i, p in enumerate(probabilities)]
    return [turn for turn in found if turn], probabilities


def test_real_speech_is_found_in_its_place(speech):
    silence = np.zeros(48000, np.float32)
    found, _ = turns_of(np.concatenate([silence, speech, silence]))
    assert found[0].started
    assert not found[-1].started
    levels = np.abs(speech) > 0.02
    begins, ends = levels.argmax() / 24000, (len(levels) - levels[::-1].argmax()) / 24000
    assert abs(found[0].at - 2 - begins) < 0.3
    assert abs(found[-1].at - 2 - ends) < 0.4
    assert all(turn.probability >= 0.5 for turn in found if turn.started)


def test_silence_and_noise_are_not_speech():
    noise = np.random.default_rng(0).normal(0, 0.01, 24000 * 5)
    hum = 0.1 * np.sin(2 * np.pi * 50 * np.arange(24000 * 5) / 24000)
    for quiet in (np.zeros(24000 * 5), noise, hum):
        found, probabilities = turns_of(quiet)
        assert not found
        assert len(probabilities) >= 5 / 0.032 - 2


def test_frames_of_any_size_give_the_same(speech):
    pcm = speech[: 1920 * 20]
    small, large = SileroVoiceActivity(24000), SileroVoiceActivity(24000)
    one = [p for each in frames(pcm, 480) for p in small.hear(each)]
    other = [p for each in frames(pcm, 1920 * 5) for p in large.hear(each)]
    shared = min(len(one), len(other))
    assert shared > 40
    np.testing.assert_allclose(one[:shared], other[:shared], atol=1e-4)


def test_two_detectors_share_nothing(speech):
    alone, beside, noisy = (SileroVoiceActivity(24000) for _ in range(3))
    for each in frames(speech[: 1920 * 12]):
        expected = alone.hear(each)
        noisy.hear(frame(np.random.default_rng(1).normal(0, 0.5, 1920)))
        assert beside.hear(each) == expected


def test_state_goes_on(speech):
    """At the model's own rate exactly; a resampler's past of a few milliseconds begins anew."""
    for rate, tolerance in ((16000, 0.0), (24000, 0.3)):
        pieces = frames(speech[: 1920 * 30])
        whole, first, second = (SileroVoiceActivity(rate) for _ in range(3))
        expected = [p for each in pieces for p in whole.hear(each)]
        found = [p for each in pieces[:13] for p in first.hear(each)]
        second.restore({name: np.array(value) for name, value in first.state().items()})
        found += [p for each in pieces[13:] for p in second.hear(each)]
        shared = min(len(found), len(expected))
        assert shared >= len(expected) - 1
        assert np.abs(np.array(found[:shared]) - expected[:shared]).mean() <= tolerance


@pytest.mark.parametrize(
    ("name", "damaged"),
    [
        ("context", np.zeros(63)),
        ("memory", np.zeros((2, 127))),
        ("pending", np.zeros(512)),
        ("pending", np.zeros((1, 1))),
    ],
)
def test_a_damaged_state_changes_nothing(speech, name, damaged):
    voice, other = SileroVoiceActivity(24000), SileroVoiceActivity(24000)
    other.hear(frame(speech[:1920]))
    state = other.state()
    for broken in (state | {name: damaged.astype(np.float32)}, {key: state[key] for key in state if key != name}):
        with pytest.raises(StateError, match="export"):
            voice.restore(broken)
    assert not voice.state()["memory"].any()
