"""What the codes say, for `codec_quality.py`: a small network that reads phonemes from a codec's codes alone.

It learns from freshly made speech of the training's voices and sentences, and is tested on sentences and voices that it
has not heard. One probe sees the first codebook, which shall tell what is said; one sees all codebooks. The floor is
how wrong the first is about a sentence when it is given the codes of another one: what a guess is worth.
"""

from collections.abc import Sequence
from typing import Any

import attrs
import jiwer
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from codec_paths import Heard
from codec_speech import progress
from duplex.backends.torch.codec import TorchCodec
from duplex.training.data.sentences import sentence
from duplex.training.data.synthesizers import SAMPLE_RATE, Hibari
from duplex.training.data.voices import CAST

__all__ = ["probe"]

Codes = NDArray[np.int64]
SHARES = {"heart": 0.35, "slt": 0.15, "awb": 0.15, "kal": 0.1, "espeak": 0.15, "joe": 0.1}
"""Of the speech that is made, by voice. Kokoro's voices are left out: they speak at half the speed of sound heard."""
STRESS = "ˈˌː"
OUTPUTS_PER_FRAME = 4
WIDTH = 128
EPOCHS = 40
BATCH = 24
LEARNING_RATE = 3e-3
FRAMES_HIDDEN = 0.1
SEED = 0


@attrs.frozen(eq=False)
class Example:
    """Codes ``[codebooks, frames]`` and the phonemes that are said in them."""

    codes: Codes
    phonemes: str


class Phonemes:
    """The phonemes of a text: no stress, no punctuation, no spaces."""

    def __init__(self) -> None:
        self._phonemizer = Hibari()

    def of(self, text: str) -> str:
        """Return one letter a phoneme."""
        return "".join(
            letter
            for part in self._phonemizer.phonemes(text)
            for letter in part
            if letter.isalpha() and letter not in STRESS
        )


class Reader(nn.Module):
    """Embeddings of the codes, summed, two bidirectional layers, and four outputs a frame; output 0 is the blank."""

    def __init__(self, codebooks: int, vocabulary: int, letters: str) -> None:
        super().__init__()
        self.letters = letters
        self.embeddings = nn.ModuleList(nn.Embedding(vocabulary, WIDTH) for _ in range(codebooks))
        self.layers = nn.GRU(WIDTH, WIDTH, num_layers=2, bidirectional=True, batch_first=True, dropout=0.3)
        self.head = nn.Linear(2 * WIDTH, OUTPUTS_PER_FRAME * (1 + len(letters)))

    def forward(self, codes: Tensor, lengths: Tensor) -> Tensor:
        """Return log probabilities ``[batch, 4 * frames, 1 + letters]`` of codes ``[batch, codebooks, frames]``."""
        x = torch.stack([embed(codes[:, k]) for k, embed in enumerate(self.embeddings)]).sum(dim=0)
        if self.training:
            x = x * (torch.rand(x.shape[:2]) >= FRAMES_HIDDEN)[..., None]
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        x, _ = nn.utils.rnn.pad_packed_sequence(self.layers(packed)[0], batch_first=True)
        return self.head(x).unflatten(-1, (OUTPUTS_PER_FRAME, -1)).flatten(1, 2).log_softmax(dim=-1)

    @torch.inference_mode()
    def read(self, codes: Codes) -> str:
        """Return the phonemes of codes ``[codebooks, frames]``: the best at each output, repetitions and blanks out."""
        lengths = torch.tensor([codes.shape[1]])
        best = self(torch.from_numpy(codes)[None], lengths)[0].argmax(dim=-1)
        return "".join(self.letters[index - 1] for index in best.unique_consecutive().tolist() if index)


def probe(codec: TorchCodec, voices: Sequence[Heard], minutes: float) -> dict[str, Any]:
    """Return phoneme error rates by voice, of probes trained on ``minutes`` of speech."""
    phonemes = Phonemes()
    progress(f"probe: {minutes:g} minutes of speech")
    examples = made(codec, minutes * 60, phonemes)
    test = {heard.voice: _examples(heard, phonemes) for heard in voices}
    figures: dict[str, Any] = {"minutes": minutes, "sentences": len(examples)}
    for name, codebooks in (("first", 1), ("all", codec.spec.codebooks)):
        progress(f"probe: {name} codebook" + "s" * (codebooks > 1))
        reader = train(examples, codebooks, codec.spec.vocabulary)
        figures[name] = {voice: _error_rate(reader, spoken) for voice, spoken in test.items()}
        if codebooks == 1:
            figures["floor"] = {voice: _error_rate(reader, _exchanged(spoken)) for voice, spoken in test.items()}
    return figures


def made(codec: TorchCodec, seconds: float, phonemes: Phonemes) -> list[Example]:
    """Return sentences of the training's kind, in the voices of the training."""
    voices = {voice.name: voice for voice in CAST}
    examples: list[Example] = []
    for name, share in SHARES.items():
        rng = np.random.default_rng((SEED, len(examples)))
        left = share * seconds
        while left > 0:
            text = sentence(rng)
            pcm = voices[name].speak(text, rng)
            left -= len(pcm) / SAMPLE_RATE
            examples.append(Example(codec.encode(pcm), phonemes.of(text)))
    return examples


def train(examples: Sequence[Example], codebooks: int, vocabulary: int) -> Reader:
    """Train a reader of the first ``codebooks`` codebooks."""
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    reader = Reader(
        codebooks, vocabulary, "".join(sorted({letter for example in examples for letter in example.phonemes}))
    )
    batches = -(-len(examples) // BATCH)
    optimizer = torch.optim.AdamW(reader.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=EPOCHS * batches)
    for _ in range(EPOCHS):
        for chosen in _batches(examples, rng):
            optimizer.zero_grad()
            _loss(reader, chosen, codebooks).backward()
            nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return reader.eval()


def _batches(examples: Sequence[Example], rng: np.random.Generator) -> list[list[Example]]:
    """Return all examples in batches of about equal length, in random order."""
    order = np.argsort([example.codes.shape[1] * rng.uniform(0.9, 1.1) for example in examples])
    batches = [[examples[index] for index in order[start : start + BATCH]] for start in range(0, len(order), BATCH)]
    return [batches[index] for index in rng.permutation(len(batches))]


def _loss(reader: Reader, chosen: Sequence[Example], codebooks: int) -> Tensor:
    lengths = torch.tensor([example.codes.shape[1] for example in chosen])
    codes = torch.zeros(len(chosen), codebooks, int(lengths.max()), dtype=torch.int64)
    for row, example in zip(codes, chosen, strict=True):
        row[:, : example.codes.shape[1]] = torch.from_numpy(example.codes[:codebooks])
    targets = [[1 + reader.letters.index(letter) for letter in example.phonemes] for example in chosen]
    return functional.ctc_loss(
        reader(codes, lengths).transpose(0, 1),
        torch.tensor([label for row in targets for label in row]),
        lengths * OUTPUTS_PER_FRAME,
        torch.tensor([len(row) for row in targets]),
        zero_infinity=True,
    )


def _examples(heard: Heard, phonemes: Phonemes) -> list[Example]:
    return [Example(codes, phonemes.of(text)) for codes, text in zip(heard.codes, heard.texts, strict=True)]


def _exchanged(examples: Sequence[Example]) -> list[Example]:
    """Return each example's phonemes with the codes of the one before."""
    return [Example(examples[index - 1].codes, example.phonemes) for index, example in enumerate(examples)]


def _error_rate(reader: Reader, examples: Sequence[Example]) -> float:
    """Return errors in a hundred phonemes."""
    codebooks = len(reader.embeddings)
    said = [" ".join(example.phonemes) for example in examples]
    read = [" ".join(reader.read(example.codes[:codebooks])) for example in examples]
    return 100 * jiwer.wer(said, read)
