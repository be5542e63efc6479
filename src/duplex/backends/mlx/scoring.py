"""How likely the language model of this backend finds known tokens (:class:`duplex.frame_model.ScoresTokens`)."""

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from duplex.backends.mlx.arrays import evaluate, from_numpy, shaped, to_numpy
from duplex.backends.mlx.depth import KeyValueCache
from duplex.backends.mlx.language_model import LanguageModel
from duplex.backends.mlx.state import Call
from duplex.frame_model import UNGENERATED, TokenScores

__all__ = ["score"]

Int64 = NDArray[np.int64]


def score(lm: LanguageModel, call: Call, inputs: Int64, targets: Int64) -> TokenScores:
    """Advance the rows of a call by the steps of ``inputs`` ``[batch, streams, n]``, and score ``targets``."""
    config = lm.config
    initial = np.array([config.text_card] + [config.card] * config.n_q)
    read = from_numpy(np.where(inputs == UNGENERATED, initial[:, None], inputs))
    context = lm.temporal(read, call)
    context = shaped(context, -1, context.shape[-1])
    columns = from_numpy(np.ascontiguousarray(targets.transpose(0, 2, 1).reshape(-1, targets.shape[1])))
    logits = lm.text_linear(context).astype(mx.float32)
    likeliest = mx.argmax(logits, axis=-1).astype(columns.dtype)
    text = mx.where(columns[:, 0] == UNGENERATED, likeliest, columns[:, 0])
    found = [_scored(logits, columns[:, 0])]
    if config.agent_streams:
        past: list[KeyValueCache] = [[] for _ in range(config.depformer_num_layers)]
        previous = text
        for codebook in range(config.agent_streams):
            code = columns[:, 1 + codebook]
            logits = lm.depformer.slices[codebook](context, previous, past)
            found.append(_scored(logits, code))
            previous = mx.where(code == UNGENERATED, config.card, code)
    likely, ranks = (mx.stack(list(parts), axis=1) for parts in zip(*found, strict=True))
    evaluate(likely, ranks, text, list(call.rows))
    rows, steps = inputs.shape[0], inputs.shape[2]
    return TokenScores(
        log_probabilities=to_numpy(likely).reshape(rows, steps, -1).transpose(0, 2, 1),
        ranks=to_numpy(ranks).reshape(rows, steps, -1).transpose(0, 2, 1).astype(np.int64),
        text=to_numpy(text).reshape(rows, steps).astype(np.int64),
    )


def _scored(logits: mx.array, wanted: mx.array) -> tuple[mx.array, mx.array]:
    """Return the log-probability and the rank of each token ``[n]``, of logits ``[n, vocabulary]``."""
    known = wanted != UNGENERATED
    own = mx.take_along_axis(logits, mx.maximum(wanted, 0)[:, None], axis=1)
    likely = (own - mx.logsumexp(logits, axis=-1, keepdims=True))[:, 0]
    rank = (logits > own).sum(axis=-1).astype(mx.int32)
    return mx.where(known, likely, mx.nan), mx.where(known, rank, -1)
