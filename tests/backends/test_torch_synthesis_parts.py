"""The parts of a model of speech synthesis on the torch backend, fed what the published program said."""

import json
import os
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from family_support import FAMILY, GREEDY
from safetensors.numpy import load_file

from duplex.backends.torch.language_model import LanguageModel
from duplex.backends.torch.loading import load_language_model
from duplex.backends.torch.prefill import LONGEST_RUN
from duplex.backends.torch.sampling import Sampling
from duplex.backends.torch.state import Call, SlotState, StateSpec, bind
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.checkpoints.layout import CheckpointLayout
from duplex.errors import UsageError
from duplex.frame_model import UNGENERATED, ZERO, Conditions

WHOLE = os.environ.get("DUPLEX_FAMILY_REFERENCE")
CPU = torch.device("cpu")
SPEAKERS = 5
DELAY_STEPS = 4
CASES = [
    ("tts-cfg", "", None, 2.0),
    ("tts-cfg", "cfg1.", None, 1.0),
    pytest.param("tts", "", "2.0", 1.0, marks=pytest.mark.skipif(not WHOLE, reason="not in the repository")),
    pytest.param("tts-prefix", "", None, 2.0, marks=pytest.mark.skipif(not WHOLE, reason="not in the repository")),
]


def load(name, *, guidance):
    """Return a language model, the state of one slot, what was expected, and the conditions' vectors."""
    folder = FAMILY / name if (FAMILY / name).exists() else Path(WHOLE or "") / name
    mapping = json.loads((folder / "config.json").read_text())
    own = {key: value for key, value in mapping.items() if key not in CheckpointLayout.NON_MODEL_KEYS}
    config = LanguageModelConfig.from_dict(own, where=name)
    weights = folder / mapping["moshi_name"]
    lm = load_language_model(config, weights, dtype=torch.float32, device=CPU, guidance=guidance)
    return lm, load_file(folder / "expected.safetensors"), sorted((folder / "voices").glob("*"))


def state_of(lm: LanguageModel) -> SlotState:
    return SlotState.allocate(bind(lm, "lm", LONGEST_RUN), 1, dtype=torch.float32, device=CPU)


def conditions_of(expected, voices, word) -> Conditions:
    """Two speakers of five; a model without conditions has instead a beginning that its second row does not read."""
    if not voices:
        return Conditions(masked_until=expected["prefix"].shape[1] + DELAY_STEPS)
    vectors = [load_file(path)["speaker_wavs"][0].T for path in voices]
    absent = [np.zeros_like(vectors[0])] * (SPEAKERS - len(vectors))
    mask = np.arange(SPEAKERS * len(vectors[0])) < len(voices) * len(vectors[0])
    words = {"control": "ok"} | ({"cfg": word} if word else {})
    return Conditions(
        words=words, vectors={"speaker_wavs": np.concatenate(vectors + absent)}, masks={"speaker_wavs": mask}
    )


@torch.inference_mode()
def run(lm, coefficient, conditions, known):
    """Step once for each row of ``known``; return the text logits and the tokens of each step."""
    options = attrs.evolve(GREEDY, guidance=coefficient)
    state, sampling = state_of(lm), Sampling.of([options])
    lm.begin(Call(state), options, conditions)
    steps = [lm(None, Call(state), sampling, torch.as_tensor(row)[None]) for row in known]
    return torch.cat([step.text_logits for step in steps]).numpy(), torch.cat([step.tokens for step in steps]).numpy()


@pytest.mark.parametrize(("name", "tag", "word", "coefficient"), CASES)
def test_what_the_published_program_chose(name, tag, word, coefficient):
    """Text is forced, as its state machine does; codes are, where its hook or a voice's beginning does."""
    lm, expected, voices = load(name, guidance=coefficient != 1)
    frames, delays = expected[f"{tag}frames"], lm.config.delays
    length = frames.shape[1]
    forced = 0 if voices else expected["prefix"].shape[1] + DELAY_STEPS
    known = np.full((length, len(delays)), ZERO)
    for stream, delay in enumerate(delays):
        known[delay:, stream] = frames[stream, : length - delay]
        if stream:
            free = (known[:, stream] >= 0) & (np.arange(length) >= forced + delay)
            known[free, stream] = UNGENERATED
    logits, tokens = run(lm, coefficient, conditions_of(expected, voices, word), known)
    if f"{tag}text_logits" in expected:
        np.testing.assert_allclose(logits, expected[f"{tag}text_logits"][:length], atol=1e-4)
    np.testing.assert_array_equal(logits.argmax(axis=1), expected[f"{tag}predicted"][:length])
    latest = max(delays)
    np.testing.assert_array_equal(tokens[latest:, 1:], frames[1:, : length - latest].T)


def test_conditions():
    lm, expected, voices = load("tts-cfg", guidance=False)
    given = conditions_of(expected, voices, None)
    provider = lm.condition_provider
    assert provider is not None
    np.testing.assert_allclose(provider.sum(given).numpy(), expected["condition_sum"], atol=1e-6)
    np.testing.assert_allclose(provider.cross(given).numpy(), expected["condition_cross"], atol=1e-6)
    wrong = {
        r"speaker_wavs is \[3, 7\]; give one vector or more of 12": Conditions(
            vectors={"speaker_wavs": np.zeros((3, 7), np.float32)}
        ),
        "no condition 'mood' of vectors": Conditions(vectors={"mood": np.zeros((3, 12), np.float32)}),
        "conditioned on 626 vectors": Conditions(vectors={"speaker_wavs": np.zeros((626, 12), np.float32)}),
    }
    for message, conditions in wrong.items():
        with pytest.raises(UsageError, match=message):
            lm.begin(Call(state_of(lm)), GREEDY, conditions)


class Counting:
    """A script that says the number of the step, and no code in the first steps."""

    def state_spec(self):
        return {"script.said": StateSpec((), torch.int64)}

    def text(self, sampled, step, call, key):
        call.advance(f"{key}.script.said", 1)
        return torch.full_like(sampled, 5) + step

    def codes(self, chosen, step, call, key):
        assert call.read(f"{key}.script.said") is not None
        return chosen.masked_fill((step < DELAY_STEPS)[:, None], ZERO)


def test_a_script_takes_part_in_a_step():
    lm, expected, voices = load("tts-cfg", guidance=True)
    lm.script = Counting()
    known = np.full((12, len(lm.config.delays)), UNGENERATED)
    _, tokens = run(lm, 2.0, conditions_of(expected, voices, None), known)
    latest = max(lm.config.delays)
    assert tokens[latest:, 0].tolist() == list(range(5, 5 + 12 - latest))
    assert (tokens[latest : DELAY_STEPS + latest - 2, 1:2] == ZERO).any()
    assert (tokens[DELAY_STEPS + latest :, 1:] >= 0).all()
