"""Make the text tokenizer of another language from a file of sentences, and the configuration that has its size.

python examples/another_domain/make_tokenizer.py examples/another_domain/pizza_de.toml --out dialogues-de
"""

import argparse
import json
from pathlib import Path

import numpy as np
import sentencepiece
from sentences import Sentences

from duplex.training.dialogues import SpecialTokens
from duplex.training.dialogues.plan import TOKENIZER
from duplex.training.dialogues.tokenizer_training import train_on
from duplex.training.language_model import TINY_LANGUAGE_MODEL

DRAWS = 2000
EMPHASIS = 100
"""How often each word of an answer is added, so that it becomes a piece: one word, one frame."""


def main() -> None:
    """Write both."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sentences", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    sentences, rng = Sentences(given.sentences), np.random.default_rng(0)
    drawn = [sentences.draw(sentences.topics[index % len(sentences.topics)], "training", rng) for index in range(DRAWS)]
    words = sorted({word.strip(".,!?") for turn in drawn for word in turn.answer.split()})
    texts = [text for turn in drawn for text in (turn.question.replace("|", ""), turn.answer)] + words * EMPHASIS
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / TOKENIZER).write_bytes(train_on(texts, SpecialTokens()))
    pieces = sentencepiece.SentencePieceProcessor(str(given.out / TOKENIZER)).vocab_size()
    config = json.dumps(TINY_LANGUAGE_MODEL | {"text_card": pieces}, indent=1)
    (given.out / "config.json").write_text(config, encoding="utf-8")
    print(f"{given.out}: a tokenizer of {pieces} pieces")


if __name__ == "__main__":
    main()
