"""Speech synthesis on the MLX backend, below its frame model: numbers in, numbers out."""

import json

import mlx.core as mx
import numpy as np
from family_support import config_of

from duplex.backends.mlx.arrays import evaluate
from duplex.backends.mlx.language_model import load_language_model
from duplex.backends.mlx.sampling import Sampling
from duplex.backends.mlx.speech_script import SpeechScript
from duplex.backends.mlx.state import Call, allocate, bind
from duplex.backends.shared.prefilling import LONGEST_RUN
from duplex.frame_model import UNGENERATED, ZERO

DELAY = 4
"""Steps from the text to its audio, in these checkpoints."""


class Script:
    """The script alone, of so many slots."""

    def __init__(self, settings, slots):
        self.script = SpeechScript(settings, mx.zeros(6, mx.int32))
        declared = {f"lm.{name}": spec for name, spec in self.script.state_spec().items()}
        self.states = [allocate(declared, mx.float32) for _ in range(slots)]

    def begin(self, slot, prefix=0):
        self.script.begin(self.states[slot], "lm", prefix=prefix)

    def say(self, slot, entries):
        self.script.say(self.states[slot], "lm", entries)

    def text(self, sampled, step):
        """Return what each slot says for what was sampled for it."""
        steps = mx.full(len(self.states), step, mx.int32)
        said = self.script.text(mx.array(sampled, mx.int32), steps, Call(self.states), "lm")
        evaluate(said, self.states)
        return said.tolist()


def loaded(folder):
    mapping = json.loads((folder / "config.json").read_text())
    return load_language_model(config_of(mapping), folder / mapping["moshi_name"], dtype=mx.float32, packing=None)


def spoken(folder, settings, entries, options, conditions, *, steps, streams=None):
    """Return the tokens of the time steps that so many steps complete, int32 ``[streams, n]``."""
    lm = loaded(folder)
    lm.script = script = SpeechScript(settings, mx.array(lm.config.delays[lm.agent], mx.int32))
    state = allocate(bind(lm, "lm", LONGEST_RUN), mx.float32)
    lm.begin(state, options, conditions)
    script.begin(state, lm.key, streams=streams)
    script.say(state, lm.key, entries)
    columns = []
    for step in range(steps):
        made = lm(None, Call([state], step + 1), Sampling.of([options]))
        evaluate(made.tokens, state)
        columns.append(np.array(made.tokens)[0])
    return np.array(columns).T[:, max(lm.config.delays) :]


class Synthesis:
    """The language model alone, whose words somebody else chooses; a session at a time, from its first step."""

    def __init__(self, folder):
        self.model = loaded(folder)
        self.declared = bind(self.model, "lm", LONGEST_RUN)

    def run(self, words, options, conditions, *, streams=None, prefix=None):
        """Return the text logits of every step, and the tokens of every time step that came out.

        ``words`` stand for the text of each step; only the first ``streams`` codebooks speak, and ``prefix`` int64
        ``[streams, n]`` are the codes that they begin with.
        """
        state = allocate(self.declared, mx.float32)
        self.model.begin(state, options, conditions)
        delays, sampling = np.array(self.model.config.delays[1:]), Sampling.of([options])
        beginning = np.zeros((len(delays), 0), np.int64) if prefix is None else prefix
        logits, columns = [], []
        for step, word in enumerate(words):
            known = np.full(len(delays), UNGENERATED)
            for stream, index in enumerate(step - delays - DELAY):
                if index < 0 or (streams is not None and stream >= streams):
                    known[stream] = ZERO
                elif index < beginning.shape[1]:
                    known[stream] = beginning[stream, index]
            made = self.model(
                None,
                Call([state], step + 1),
                sampling,
                mx.array([[int(word), *known.tolist()]], mx.int32),
            )
            evaluate(made.tokens, made.text_logits, state)
            logits.append(np.array(made.text_logits)[0])
            columns.append(np.array(made.tokens)[0])
        return np.array(logits), np.array(columns).T[: 1 + (streams or len(delays)), max(delays) :]
