"""A small set of samples in the layout of Full-Duplex-Bench, of synthesized users, with exact times.

| set | the user | annotated |
|---|---|---|
| ``synthetic_pause_handling`` | hesitates within a question; the sample ends with its last word | the pause |
| ``icc_backchannel`` | tells something, with a breath after each sentence | nothing, but ``icc_gt_distribution.json`` |
| ``synthetic_turn_taking`` | asks, and waits | from the last word on |
| ``synthetic_user_interruption`` | asks, and asks something else while the answer should go on | the second question |
| ``v1.5/`` and a name | asks; then what the name says, in ``input.wav`` alone | what comes then |

The names of v1.5 are ``user_interruption``, ``user_backchannel``, ``talking_to_other`` and ``background_speech``;
``clean_input.wav`` has the question only.
Sentences are those of the test phrasings, voices those that are held out from training; there is noise at -65 dBFS.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.atomic import atomic_write_text, make_folder
from duplex.audio.wav import WavWriter
from duplex.errors import OutputError
from duplex.training.data.synthesizers import SAMPLE_RATE
from duplex.training.data.voices import HELD_OUT_VOICES, Voice
from duplex.training.dialogues.scenes import LONG, OPENERS, Script
from duplex.training.dialogues.timeline import DialogueTimeline
from duplex.training.dialogues.topics import BUILT_IN, off_topic_sentence

__all__ = ["DISTRIBUTION", "VOICES", "write_benchmark"]

Float32 = NDArray[np.float32]
DISTRIBUTION = "icc_gt_distribution.json"
VOICES = tuple(voice for voice in HELD_OUT_VOICES if voice.engine in {"flite", "espeak"})
"""Those that need no download."""
LONG_ANSWERS = tuple(topic for topic in LONG if topic in BUILT_IN)
NOISE_DBFS = -65.0
WAIT = 5.0
"""Seconds for an answer at the end of a sample."""
PAUSE = (0.6, 1.3)
BEFORE_ANSWER, INTO_ANSWER = 0.8, (0.6, 1.2)
BREATH = (0.6, 0.9)
HUMAN = (0.1, 0.6)
"""When people give a backchannel, in seconds after a sentence."""
BIN, LEAST = 0.2, 1e-10
FAR = 0.2
"""How much quieter somebody in the background is."""


@attrs.frozen(kw_only=True)
class _Made:
    """A sample: its sounds by name, its annotation and the annotation's file, and when people give backchannels."""

    sounds: dict[str, Float32]
    file: str | None = None
    annotation: Any = None
    human: Sequence[float] = ()


def write_benchmark(folder: Path, samples: int, *, seed: int = 0, voices: Sequence[Voice] = VOICES) -> int:
    """Write ``samples`` samples of each set; return how many there are in all. The same seed gives the same set.

    :raises MissingDependencyError: if a synthesizer is not installed, with how to install it
    :raises OutputError: if the folder is there already, or cannot be written
    """
    if folder.exists() and any(folder.iterdir()):
        raise OutputError(f"{folder} is not empty; give a new folder, so that no other samples are among these")
    human: dict[str, list[float]] = {}
    for number, (name, make) in enumerate(SETS.items()):
        for index in range(samples):
            rng = np.random.default_rng((seed, number, index))
            voice = voices[index % len(voices)].sample_speaker(rng)
            made = make(Script(DialogueTimeline(voice, rng), "testing"))
            _write(folder / name / str(index + 1), made, rng)
            if name == BACKCHANNELS:
                human[str(index + 1)] = list(made.human)
    atomic_write_text(folder / DISTRIBUTION, json.dumps(human) + "\n")
    return samples * len(SETS)


def _write(folder: Path, made: _Made, rng: np.random.Generator) -> None:
    make_folder(folder)
    longest = max(len(pcm) for pcm in made.sounds.values())
    noise = rng.normal(0, 10 ** (NOISE_DBFS / 20), longest).astype(np.float32)
    for name, pcm in made.sounds.items():
        with WavWriter(folder / name, channels=1, sample_rate=SAMPLE_RATE) as writer:
            writer.write(pcm + noise[: len(pcm)])
            writer.commit()
    if made.file is not None:
        atomic_write_text(folder / made.file, json.dumps(made.annotation, indent=1) + "\n")


def _pause(script: Script) -> _Made:
    parts = _hesitating(script)
    middle = script.timeline.user_says(parts[0], 0.3)
    goes_on = middle + script.rng.uniform(*PAUSE)
    end = script.timeline.user_says(parts[1], goes_on)
    mark = [{"text": "[PAUSE]", "timestamp": [middle, goes_on]}]
    return _Made(sounds={"input.wav": script.timeline.user.sound(end)}, file="pause.json", annotation=mark)


def _hesitating(script: Script) -> tuple[str, str]:
    """Return a question in two parts."""
    while True:
        first, *rest = script.question(BUILT_IN).question.split("|")
        if rest:
            return first.strip(), " ".join(" ".join(rest).split())


def _backchannel(script: Script) -> _Made:
    rng, timeline = script.rng, script.timeline
    at, ends = timeline.user_says(OPENERS.draw("testing", rng), 0.3), list[float]()
    for _ in range(4):
        ends.append(at)
        at = timeline.user_says(off_topic_sentence(rng), at + rng.uniform(*BREATH))
    human = np.full(int(at / BIN) + 1, LEAST)
    for end in ends:
        human[int((end + HUMAN[0]) / BIN) : int((end + HUMAN[1]) / BIN) + 1] += 1
    return _Made(sounds={"input.wav": timeline.user.sound(at)}, human=(human / human.sum()).tolist())


def _turn(script: Script) -> _Made:
    end = script.timeline.user_says(_plain(script.question(BUILT_IN).question), 0.3)
    mark = [{"text": "[TURN-TAKING]", "timestamp": [end, end + WAIT]}]
    return _Made(sounds={"input.wav": script.timeline.user.sound(end + WAIT)}, file="turn_taking.json", annotation=mark)


def _interruption(script: Script) -> _Made:
    context, second = _plain(script.question(LONG_ANSWERS).question), _plain(script.question(BUILT_IN).question)
    start = script.timeline.user_says(context, 0.3) + BEFORE_ANSWER + script.rng.uniform(*INTO_ANSWER)
    end = script.timeline.user_says(second, start)
    mark = [{"context": context, "interrupt": second, "timestamp": [start, end]}]
    return _Made(sounds={"input.wav": script.timeline.user.sound(end + WAIT)}, file="interrupt.json", annotation=mark)


def _overlap(script: Script, text: str, voice: Voice | None = None, gain: float = 1.0) -> _Made:
    """Return a sample of v1.5: a question, and something while it is being answered."""
    rng, context = script.rng, _plain(script.question(LONG_ANSWERS).question)
    asked = script.timeline.user_says(context, 0.3)
    start = asked + BEFORE_ANSWER + rng.uniform(*INTO_ANSWER)
    other = DialogueTimeline(voice or script.timeline.voice, rng)
    end = other.user_says(text, start)
    clean = script.timeline.user.sound(end + WAIT)
    mark = {"context_text": context, "current_turn_text": text, "timestamps": [start, end]}
    heard = clean + other.user.sound(end + WAIT) * np.float32(gain)
    sounds = {"input.wav": heard.astype(np.float32), "clean_input.wav": clean}
    return _Made(sounds=sounds, file="metadata.json", annotation=mark)


def _background(script: Script) -> _Made:
    return _overlap(script, off_topic_sentence(script.rng), VOICES[int(script.rng.integers(len(VOICES)))], FAR)


def _plain(question: str) -> str:
    return " ".join(question.replace("|", " ").split())


BACKCHANNELS = "icc_backchannel"
SETS: dict[str, Callable[[Script], _Made]] = {
    "synthetic_pause_handling": _pause,
    BACKCHANNELS: _backchannel,
    "synthetic_turn_taking": _turn,
    "synthetic_user_interruption": _interruption,
    "v1.5/user_interruption": lambda script: _overlap(script, _plain(script.question(BUILT_IN).question)),
    "v1.5/user_backchannel": lambda script: _overlap(script, "Mm-hm."),
    "v1.5/talking_to_other": lambda script: _overlap(script, off_topic_sentence(script.rng)),
    "v1.5/background_speech": _background,
}
