"""What the codes say, for `codec_quality.py`: a small network that reads phonemes from a codec's codes alone.

It learns from freshly made speech of the training's voices and sentences, and is tested on sentences and voices that it
has not heard. One probe sees the first codebook, which shall tell what is said; one sees all codebooks. Three others
show what their rates mean: the first probe given the codes of another sentence (what a guess is worth), and probes of
as many clusters as a codebook has entries, of each frame's mel spectrum and of what the teacher hears in it.
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

from codec_clusters import Clusters, mel_features, teacher_features
from codec_paths import Heard, entries
from codec_speech import in_frames, progress
from duplex.backends.torch.codec import TorchCodec
from duplex.training.data.sentences import sentence
from duplex.training.data.synthesizers import SAMPLE_RATE, Hibari
from duplex.training.data.voices import TRAINING_VOICES

__all__ = ["probe"]

Float32 = NDArray[np.float32]
Codes = NDArray[np.int64]
SHARES = {"heart": 0.35, "slt": 0.15, "awb": 0.15, "kal": 0.1, "espeak": 0.15, "joe": 0.1}
"""Of the speech that is made, by voice. Kokoro's voices are left out: they take longer to speak than all others."""
STRESS = "ˈˌː"
OUTPUTS_PER_FRAME = 4
WIDTH = 128
EPOCHS = 16
BATCH = 12
LEARNING_RATE = 3e-3
FRAMES_HIDDEN = 0.2
DROPOUT = 0.3
SEED = 0


@attrs.frozen(eq=False)
class Example:
    """Codes ``[codebooks, frames]`` and the phonemes that are said in them, one letter each."""

    codes: Codes
    phonemes: str


class Reader(nn.Module):
    """What codes stand for, summed, two convolutions, and four outputs a frame; output 0 is the blank.

    The vectors of the codes are given and not learnt: half an hour of speech is too little to learn thousands of them.
    """

    def __init__(self, tables: Sequence[Tensor], letters: str) -> None:
        super().__init__()
        self.letters = letters
        self.tables = nn.ModuleList(nn.Embedding.from_pretrained(table) for table in tables)
        self.norm = nn.BatchNorm1d(tables[0].shape[1], affine=False)
        self.widen = nn.Linear(tables[0].shape[1], WIDTH)
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.layers = nn.ModuleList(nn.Conv1d(WIDTH, WIDTH, 3, padding=1) for _ in range(2))
        self.dropout = nn.Dropout(DROPOUT)
        self.head = nn.Linear(WIDTH, OUTPUTS_PER_FRAME * (1 + len(letters)))

    def forward(self, codes: Tensor, lengths: Tensor) -> Tensor:
        """Return log probabilities ``[batch, 4 * frames, 1 + letters]`` of codes ``[batch, codebooks, frames]``."""
        seen = torch.arange(codes.shape[-1])[None] < lengths[:, None]
        vectors = sum(table(codes[:, index]) for index, table in enumerate(self.tables))
        x = torch.zeros(*seen.shape, WIDTH)
        x[seen] = self.widen(self.norm(vectors[seen]))
        if self.training:
            x = x * (torch.rand(seen.shape) >= FRAMES_HIDDEN)[..., None]
        for norm, layer in zip(self.norms, self.layers, strict=True):
            changed = functional.gelu(layer(norm(x).transpose(1, 2)).transpose(1, 2))
            x = (x + self.dropout(changed)) * seen[..., None]
        return self.head(x).unflatten(-1, (OUTPUTS_PER_FRAME, -1)).flatten(1, 2).log_softmax(dim=-1)

    @torch.inference_mode()
    def read(self, codes: Codes) -> str:
        """Return the phonemes of codes ``[codebooks, frames]``: the best of each output, repetitions and blanks out."""
        best = self(torch.from_numpy(codes)[None], torch.tensor([codes.shape[1]]))[0].argmax(dim=-1)
        return "".join(self.letters[index - 1] for index in best.unique_consecutive().tolist() if index)


def probe(codec: TorchCodec, voices: Sequence[Heard], minutes: float) -> dict[str, Any]:
    """Return phoneme error rates by voice, of probes trained on ``minutes`` of speech."""
    progress(f"probe: {minutes:g} minutes of speech")
    phonemizer = Hibari()
    texts, sounds = made(minutes * 60)
    said = [_phonemes(phonemizer, text) for text in texts]
    asked = {heard.voice: [_phonemes(phonemizer, text) for text in heard.texts] for heard in voices}
    figures: dict[str, Any] = {"minutes": minutes, "sentences": len(texts)}
    codes = [codec.encode(pcm) for pcm in sounds]
    for name, count in (("first", 1), ("all", codec.spec.codebooks)):
        progress(f"probe: {name}")
        reader = train(_examples([piece[:count] for piece in codes], said), entries(codec)[:count])
        test = {
            heard.voice: _examples([piece[:count] for piece in heard.codes], asked[heard.voice]) for heard in voices
        }
        figures[name] = {voice: _error_rate(reader, examples) for voice, examples in test.items()}
        if count == 1:
            figures["guess"] = {voice: _error_rate(reader, _exchanged(examples)) for voice, examples in test.items()}
    for name, features in (("mel_clusters", mel_features), ("teacher_clusters", teacher_features)):
        progress(f"probe: {name}")
        known = features(sounds)
        clusters = Clusters.found(known, codec.spec.vocabulary)
        reader = train(_examples(clusters.codes(known), said), [clusters.centres])
        found = {heard.voice: clusters.codes(features(heard.sounds["original"])) for heard in voices}
        figures[name] = {voice: _error_rate(reader, _examples(found[voice], asked[voice])) for voice in found}
    return figures


def made(seconds: float) -> tuple[list[str], list[Float32]]:
    """Return sentences of the training's kind, and the sound of each in a voice of the training, in whole frames."""
    voices = {voice.name: voice for voice in TRAINING_VOICES}
    texts: list[str] = []
    sounds: list[Float32] = []
    for name, share in SHARES.items():
        rng = np.random.default_rng((SEED, len(texts)))
        left = share * seconds
        while left > 0:
            texts.append(sentence(rng))
            pcm = voices[name].speak(texts[-1], rng)
            left -= len(pcm) / SAMPLE_RATE
            sounds.append(in_frames(pcm))
    return texts, sounds


def train(examples: Sequence[Example], tables: Sequence[Tensor]) -> Reader:
    """Train a reader of codes that stand for rows of ``tables``."""
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    reader = Reader(tables, "".join(sorted({letter for example in examples for letter in example.phonemes})))
    learnt = [parameter for parameter in reader.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learnt, lr=LEARNING_RATE, weight_decay=0.01)
    steps = EPOCHS * -(-len(examples) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for _ in range(EPOCHS):
        for chosen in _batches(examples, rng):
            optimizer.zero_grad()
            _loss(reader, chosen).backward()
            nn.utils.clip_grad_norm_(learnt, 1.0)
            optimizer.step()
            schedule.step()
    return reader.eval()


def _batches(examples: Sequence[Example], rng: np.random.Generator) -> list[list[Example]]:
    """Return all examples in batches of about equal length, in random order."""
    order = np.argsort([example.codes.shape[1] * rng.uniform(0.9, 1.1) for example in examples])
    batches = [[examples[index] for index in order[start : start + BATCH]] for start in range(0, len(order), BATCH)]
    return [batches[index] for index in rng.permutation(len(batches))]


def _loss(reader: Reader, chosen: Sequence[Example]) -> Tensor:
    lengths = torch.tensor([example.codes.shape[1] for example in chosen])
    codes = torch.zeros(len(chosen), len(reader.tables), int(lengths.max()), dtype=torch.int64)
    for row, example in zip(codes, chosen, strict=True):
        row[:, : example.codes.shape[1]] = torch.from_numpy(example.codes)
    targets = [[1 + reader.letters.index(letter) for letter in example.phonemes] for example in chosen]
    return functional.ctc_loss(
        reader(codes, lengths).transpose(0, 1),
        torch.tensor([label for row in targets for label in row]),
        lengths * OUTPUTS_PER_FRAME,
        torch.tensor([len(row) for row in targets]),
        zero_infinity=True,
    )


def _phonemes(phonemizer: Hibari, text: str) -> str:
    """Return the phonemes of a text, one letter each: no stress, no punctuation, no spaces."""
    letters = "".join(phonemizer.phonemes(text))
    return "".join(letter for letter in letters if letter.isalpha() and letter not in STRESS)


def _examples(codes: Sequence[Codes], phonemes: Sequence[str]) -> list[Example]:
    return [Example(piece, said) for piece, said in zip(codes, phonemes, strict=True)]


def _exchanged(examples: Sequence[Example]) -> list[Example]:
    """Return each example's phonemes with the codes of the one before."""
    return [Example(examples[index - 1].codes, example.phonemes) for index, example in enumerate(examples)]


def _error_rate(reader: Reader, examples: Sequence[Example]) -> float:
    """Return errors in a hundred phonemes."""
    said = [" ".join(example.phonemes) for example in examples]
    return 100 * jiwer.wer(said, [" ".join(reader.read(example.codes)) for example in examples])
