"""How a model sounds during its training: it answers the user of a dialogue that was kept apart."""

from pathlib import Path

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from duplex.atomic import atomic_write_text, make_folder
from duplex.audio.wav import WavWriter
from duplex.backends.torch.language_model import LanguageModel
from duplex.backends.torch.sampling import Sampling
from duplex.backends.torch.state import Call, SlotState, bind
from duplex.checkpoints.tokenizer import StreamingDetokenizer, Tokenizer
from duplex.codec import Codec
from duplex.options import SessionOptions

__all__ = ["Listener", "answer"]

KEY = "language_model"
LONGEST = 150
"""Frames."""
OPTIONS = SessionOptions(temperature=0.8, text_temperature=0.7, top_k=250, text_top_k=25, seed=0)


@torch.no_grad()
def answer(model: LanguageModel, user: Tensor) -> Tensor:
    """Return what a model says to a user's codes, int64 ``[1 + agent_streams, frames]``: text and codes.

    ``user`` is int64 ``[user_streams, frames]``; what would come after its end is left out.
    """
    weight = model.text_linear.weight
    state = SlotState.allocate(bind(model, KEY, 1), 1, dtype=weight.dtype, device=weight.device)
    model.begin(Call(state, filled=1), OPTIONS)
    delay = max(*model.config.delays, 1)
    columns: list[Tensor] = []
    for step in range(user.shape[1] + 1):
        heard = None if step == 0 else user[None, :, step - 1]
        made = model(heard, Call(state, filled=min(step + 1, model.config.context)), Sampling.of([OPTIONS]))
        if step >= delay:
            columns.append(made.tokens[0, : model.user.start])
    return torch.stack(columns, dim=1)


@attrs.frozen
class Listener:
    """Writes answers as audio, user left and agent right, each with its text beside it."""

    codec: Codec
    tokenizer: Tokenizer
    folder: Path

    def write(self, name: str, model: LanguageModel, tokens: Tensor) -> None:
        """Write the answer to a segment of a dialogue, ``tokens`` int64 ``[2 + n_q, frames]``.

        :raises OutputError: if it cannot be written
        """
        user = tokens[model.user, :LONGEST]
        said = answer(model, user).cpu().numpy()
        left, right = self.codec.decode(user.cpu().numpy()), self.codec.decode(said[1:])
        make_folder(self.folder)
        with WavWriter(self.folder / f"{name}.wav", sample_rate=self.codec.spec.sample_rate, channels=2) as file:
            file.write(_stereo(left, right))
        atomic_write_text(self.folder / f"{name}.txt", self._text(said[0], model) + "\n")

    def _text(self, tokens: NDArray[np.int64], model: LanguageModel) -> str:
        config = model.config
        words = StreamingDetokenizer(
            self.tokenizer, config.existing_text_padding_id, config.existing_text_end_padding_id
        )
        pieces = [words.feed(token) for token in tokens.tolist() if token >= 0]
        return "".join([*pieces, words.finish()]).strip()


def _stereo(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    frames = min(len(left), len(right))
    return np.stack([left[:frames], right[:frames]], axis=1)
