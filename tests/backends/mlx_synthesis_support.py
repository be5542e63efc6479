"""The language model of speech synthesis on the MLX backend, whose words somebody else chooses."""

import json

import mlx.core as mx
import numpy as np
from family_support import config_of

from duplex.backends.mlx.arrays import evaluate
from duplex.backends.mlx.language_model import load_language_model
from duplex.backends.mlx.sampling import Sampling
from duplex.backends.mlx.state import Call, allocate, bind
from duplex.frame_model import UNGENERATED, ZERO

DELAY = 4
"""Steps from the text to its audio, in these checkpoints."""


class Synthesis:
    """A session at a time, from its first step."""

    def __init__(self, folder):
        mapping = json.loads((folder / "config.json").read_text())
        weights = folder / mapping["moshi_name"]
        self.model = load_language_model(config_of(mapping), weights, dtype=mx.float32, packing=None)
        self.declared = bind(self.model, "lm", 32)

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
                None if step == 0 else mx.zeros((1, 0), mx.int32),
                Call([state], step + 1),
                sampling,
                mx.array([[UNGENERATED, *known.tolist()]], mx.int32),
                lambda text, _, word=word: mx.full(text.shape, int(word), mx.int32),
            )
            evaluate(made.tokens, made.text_logits, state)
            logits.append(np.array(made.text_logits)[0])
            columns.append(np.array(made.tokens)[0])
        return np.array(logits), np.array(columns).T[: 1 + (streams or len(delays)), max(delays) :]
