"""How likely the language model of this backend finds known tokens (:class:`duplex.frame_model.ScoresTokens`)."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from duplex.backends.torch.language_model import LanguageModel
from duplex.backends.torch.state import Call
from duplex.frame_model import UNGENERATED, TokenScores

__all__ = ["score"]

Int64 = NDArray[np.int64]


def score(lm: LanguageModel, call: Call, inputs: Int64, targets: Int64) -> TokenScores:
    """Advance the rows of a call by the steps of ``inputs`` ``[batch, streams, n]``, and score ``targets``."""
    device = lm.initial.device
    read, wanted = torch.as_tensor(inputs).to(device), torch.as_tensor(targets).to(device)
    read = torch.where(read == UNGENERATED, lm.initial[:, None], read)
    context = lm.temporal(read, call).flatten(0, 1)
    columns = wanted.transpose(1, 2).flatten(0, 1)
    logits = lm.text_linear(context).float()
    text = torch.where(columns[:, 0] == UNGENERATED, logits.argmax(dim=-1), columns[:, 0])
    found = [_scored(logits, columns[:, 0])]
    if lm.depth is not None:
        past, previous = lm.depth.begin(), text
        for codebook, code in enumerate(columns[:, 1:].unbind(1)):
            logits = lm.depth.logits(context, previous, codebook, past)
            found.append(_scored(logits, code))
            previous = torch.where(code == UNGENERATED, lm.config.card, code)
    shape = (len(inputs), -1, len(found))
    log_probabilities, ranks = (torch.stack(parts, dim=1).view(shape).mT for parts in zip(*found, strict=True))
    return TokenScores(
        log_probabilities=log_probabilities.cpu().numpy(),
        ranks=ranks.cpu().numpy(),
        text=text.view(len(inputs), -1).cpu().numpy(),
    )


def _scored(logits: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log-probability and the rank of each token ``[n]``, of logits ``[n, vocabulary]``."""
    known = wanted != UNGENERATED
    place = wanted.clamp(min=0)[:, None]
    own = logits.gather(1, place)
    likely = logits.log_softmax(dim=-1).gather(1, place)[:, 0]
    rank = (logits > own).sum(dim=-1)
    return torch.where(known, likely, torch.nan), torch.where(known, rank, -1)
