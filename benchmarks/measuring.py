"""How exactly ``duplex measure`` finds the events of dialogues whose times are known: errors of each kind.

    python benchmarks/measuring.py --dialogues 10

Dialogues are those that the built-in model is trained on, some of each of its scenes, performed by synthesizers:
questions with pauses, interruptions, backchannels of both, long turns. Exact are the 10 ms of the clean voices above
-50 dBFS. What is measured has noise on both channels. Needs the extra ``train``, and espeak-ng and flite.

An event is found if one of the same kind and speakers begins within 300 ms of it. Errors are those of its start, of its
end, and of what else it has: the offset of a transfer, the stop latency of an interruption; median and 95 %, in ms.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from duplex.measuring import DialogueMeasures, Settings, measure_audio
from duplex.training.data.synthesizers import SAMPLE_RATE
from duplex.training.data.voices import HELD_OUT_VOICES, TRAINING_VOICES, Voice
from duplex.training.dialogues.scenes import SCENES, Script
from duplex.training.dialogues.timeline import DialogueTimeline

EXACT = Settings(detector="level", level=-50.0)
NEAR = 0.3
KINDS = ("unit", "pause", "gap", "overlap_between", "overlap_within", "transfer", "interruption", "backchannel")
BESIDES = {"transfer": "offset", "interruption": "stop_latency"}
VOICES = [voice for voice in (*TRAINING_VOICES, *HELD_OUT_VOICES) if voice.engine in {"espeak", "flite", "piper"}]
SPEAKERS = ("user", "agent")
Found = dict[str, list[tuple[float, float, float]]]


def perform(scene: Callable[[Script], None], voice: Voice, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a dialogue of two runs of a scene, float32 ``[samples, 2]`` at 24 kHz."""
    timeline = DialogueTimeline(voice.sample_speaker(rng), rng)
    script = Script(timeline, "training")
    for _ in range(2):
        scene(script)
    seconds = max(timeline.now, timeline.user.end, timeline.agent.end) + 1.0
    return np.stack([timeline.user.sound(seconds), timeline.agent.sound(seconds)], axis=1)


def measured(pcm: NDArray[np.float32], settings: Settings) -> DialogueMeasures:
    """Return the measures of both channels."""
    return measure_audio(pcm[:, 0], pcm[:, 1], SAMPLE_RATE, speakers=SPEAKERS, settings=settings)


def compare(exact: Sequence[dict[str, Any]], heard: Sequence[dict[str, Any]], kind: str) -> tuple[list[Any], int, int]:
    """Return the errors of the events of a kind that were found, how many there are, and how many too many."""
    wanted = [row for row in exact if row["event"] == kind]
    left = [row for row in heard if row["event"] == kind]
    errors: list[Any] = []
    for row in wanted:
        near = [each for each in left if (each["speaker"], each["other"]) == (row["speaker"], row["other"])]
        best = min(near, key=lambda each: abs(each["start"] - row["start"]), default=None)
        if best is None or abs(best["start"] - row["start"]) > NEAR:
            continue
        left.remove(best)
        besides = BESIDES.get(kind)
        other = abs(best[besides] - row[besides]) if besides else np.nan
        errors.append((abs(best["start"] - row["start"]), abs(best["end"] - row["end"]), other))
    return errors, len(wanted), len(left)


def errors_of(scenes: Sequence[Callable[[Script], None]], dialogues: int, noise: float) -> dict[str, list[str]]:
    """Return a line of the table for each kind of event."""
    errors, wanted, extra = defaultdict[str, list[Any]](list), defaultdict[str, int](int), defaultdict[str, int](int)
    for number, scene in enumerate(scenes):
        for index in range(dialogues):
            rng = np.random.default_rng((number, index))
            clean = perform(scene, VOICES[index % len(VOICES)], rng)
            noisy = clean + rng.normal(0, 10 ** (noise / 20), clean.shape).astype(np.float32)
            exact, heard = measured(clean, EXACT).records(), measured(noisy, Settings()).records()
            for kind in KINDS:
                found, count, more = compare(exact, heard, kind)
                errors[kind] += found
                wanted[kind] += count
                extra[kind] += more
    return {kind: _line(np.array(errors[kind]).reshape(-1, 3), wanted[kind], extra[kind]) for kind in KINDS}


def _line(errors: NDArray[np.float64], wanted: int, extra: int) -> list[str]:
    columns: list[str] = [str(wanted), str(len(errors)), str(extra)]
    for values in errors.T * 1000:
        there = values[~np.isnan(values)]
        columns.append(f"{np.median(there):.0f} ({np.percentile(there, 95):.0f})" if there.size else "")
    return columns


def main() -> None:
    """Print a table for each level of noise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dialogues", type=int, default=10, help="of each scene")
    parser.add_argument("--noise", type=float, nargs="*", default=[-65.0, -45.0], metavar="DBFS")
    given = parser.parse_args()
    for noise in given.noise:
        with threadpool_limits(1, user_api="blas"):
            table = errors_of(list(SCENES), given.dialogues, noise)
        print(f"noise at {noise:g} dBFS\n| event | there | found | too many | start | end | offset or latency |")
        print("|---|---|---|---|---|---|---|")
        for kind, columns in table.items():
            print(f"| {kind} | {' | '.join(columns)} |")


if __name__ == "__main__":
    main()
