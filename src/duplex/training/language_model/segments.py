"""Segments of dialogues to train on. Those of a step depend on the seed and the step alone, so that runs can resume."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.errors import CorpusError
from duplex.training.dialogues.shards import REBUILD_HINT, Provenance, read_dialogues
from duplex.training.language_model.settings import LanguageModelSettings

__all__ = ["SegmentSampler"]

Int16 = NDArray[np.int16]
VALIDATION_SEED = 2**32 - 1
SHARE_OF_BEGINNINGS = 0.25
"""Share of the segments that start at the beginning of a dialogue, as inference does."""
KEPT_APART = 20
"""One dialogue in so many is for validation: the first ones, as neighbours may be takes of the same words."""


class SegmentSampler:
    """Samples segments of all dialogues of a folder, which are kept in memory (1.6 MB an hour).

    :raises CorpusError: if there are none, one is damaged, they were made with different codecs or tokenizers, or do
        not fit the model
    """

    def __init__(self, folder: Path, config: LanguageModelConfig, settings: LanguageModelSettings) -> None:
        self.provenance: Provenance
        dialogues, self.provenance = _read_all(folder)
        _check_fit(folder, self.provenance, config)
        self._settings = settings
        self.seconds: float = settings.frames / self.provenance.frame_rate
        """Length of one segment."""
        kept = -(-len(dialogues) // KEPT_APART)
        self._validation = _Pool(dialogues[:kept])
        self._training = _Pool(dialogues[kept:] or dialogues)

    def batch(self, step: int, rank: int = 0) -> NDArray[np.int64]:
        """Return the segments of a step, int64 ``[batch, 2 + n_q, frames]``.

        Processes have consecutive segments of one large batch, whatever the share of each: two with 2 segments see what
        one with 4 sees.
        """
        return self._sample(self._training, self._settings.seed, step, first=rank * self._settings.batch)

    def validation(self, index: int) -> NDArray[np.int64]:
        """Return a batch of the validation set, the same one for each index."""
        return self._sample(self._validation, VALIDATION_SEED, index)

    def _sample(self, pool: "_Pool", seed: int, step: int, first: int = 0) -> NDArray[np.int64]:
        rows = range(first, first + self._settings.batch)
        drawn = [pool.draw(np.random.default_rng((seed, step, row)), self._settings.frames) for row in rows]
        return np.stack(drawn).astype(np.int64)


class _Pool:
    """Dialogues, sampled in proportion to their length."""

    def __init__(self, dialogues: list[Int16]) -> None:
        self._dialogues = dialogues
        lengths = np.array([tokens.shape[1] for tokens in dialogues], np.float64)
        self._shares = lengths / lengths.sum()

    def draw(self, rng: np.random.Generator, frames: int) -> Int16:
        """Return ``frames`` frames from a random position; a shorter dialogue is continued by the next one."""
        index = int(rng.choice(len(self._dialogues), p=self._shares))
        tokens = self._dialogues[index]
        start = int(rng.integers(max(1, tokens.shape[1] - frames + 1)))
        if rng.random() < SHARE_OF_BEGINNINGS:
            start = 0
        pieces = [tokens[:, start : start + frames]]
        while sum(piece.shape[1] for piece in pieces) < frames:
            index = (index + 1) % len(self._dialogues)
            pieces.append(self._dialogues[index])
        return np.concatenate(pieces, axis=1)[:, :frames]


def _read_all(folder: Path) -> tuple[list[Int16], Provenance]:
    paths = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    if not paths:
        raise CorpusError(f"{folder} has no dialogues; make them with: duplex train dialogues --out {folder}")
    dialogues: list[Int16] = []
    first: Provenance | None = None
    for path in paths:
        tokens, provenance = read_dialogues(path)
        if first is not None and provenance != first:
            raise CorpusError(f"{path} was made with another codec or tokenizer than {paths[0]}; {REBUILD_HINT}")
        first = provenance
        dialogues += [dialogue for dialogue in tokens if dialogue.shape[1]]
    if first is None or not dialogues:
        raise CorpusError(f"{folder} has dialogues without a single frame; {REBUILD_HINT}")
    return dialogues, first


def _check_fit(folder: Path, provenance: Provenance, config: LanguageModelConfig) -> None:
    """Check that the dialogues fit the model's configuration.

    :raises CorpusError: naming the key of the configuration that does not fit
    """
    for key, had, wanted in (
        ("n_q", 2 * provenance.codebooks, config.n_q),
        ("card", provenance.vocabulary, config.card),
        ("dep_q", provenance.codebooks, config.agent_streams),
        ("text_card", provenance.text_vocabulary, config.text_card),
        ("existing_text_padding_id", provenance.marks.padding, config.existing_text_padding_id),
        ("existing_text_end_padding_id", provenance.marks.end_of_padding, config.existing_text_end_padding_id),
    ):
        if had != wanted:
            raise CorpusError(
                f"the configuration's '{key}' is {wanted}, but {folder} has dialogues of {had}; give the configuration "
                "that belongs to their codec and tokenizer, or make them anew"
            )
