"""Training of the built-in model's text tokenizer, a small sentencepiece model, on simulated dialogues."""

import io
from collections.abc import Iterable

import numpy as np
import sentencepiece

from duplex.training.data.sentences import sentence
from duplex.training.dialogues.scenes import AGENT_BACKCHANNELS
from duplex.training.dialogues.topics import TOPICS, Memory, draw_exchange
from duplex.transcription.alignment import SpecialTokens

__all__ = ["train_on", "train_tokenizer"]

PIECES = 900
ASKED = 300
"""Number of questions per topic."""
MARKS = ".,!?"
KNOWN_NAMES = 0.5
EMPHASIS = 300
"""Number of times that each word of an answer is added by itself, so that it becomes a piece."""
SENTENCES = 1500


def train_tokenizer(seed: int, marks: SpecialTokens) -> bytes:
    """Return a sentencepiece model, which depends on the seed alone; padding tokens are its special pieces.

    Every word of an answer is one piece, so that it takes one frame; punctuation marks are separate pieces.
    """
    rng = np.random.default_rng(seed)
    texts: list[str] = []
    answered = set(AGENT_BACKCHANNELS)
    for topic in TOPICS:
        for _ in range(ASKED):
            exchange = draw_exchange(
                topic, "training", rng, Memory(name="Anna" if rng.random() < KNOWN_NAMES else None)
            )
            answered |= {word.strip(MARKS) for word in exchange.answer.split()}
            texts += [exchange.question.replace("|", ""), exchange.answer]
    texts += sorted(answered) * EMPHASIS
    texts += [sentence(rng) for _ in range(SENTENCES)]
    return train_on(texts, marks, few=False)


def train_on(texts: Iterable[str], marks: SpecialTokens, *, few: bool = True) -> bytes:
    """Return a sentencepiece model of texts in any language; it may have as ``few`` pieces as they give."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(  # pyright: ignore[reportUnknownMemberType] -- it has no annotations
        sentence_iterator=iter(texts),
        model_writer=model,
        vocab_size=PIECES,
        hard_vocab_limit=not few,
        byte_fallback=True,
        character_coverage=1.0,
        unk_id=marks.end_of_padding,
        bos_id=1,
        eos_id=2,
        pad_id=marks.padding,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()
