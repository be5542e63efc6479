"""What is written into a benchmark's folders: the agent's channel and its words, as the authors' scripts read them.

Rules:

- Sound is written at 16 kHz: their script for backchannels takes every file to be so, and tells wrong times of others.
- ``output.json`` lies beside ``output.wav``, and ``clean_output.json`` beside ``clean_output.wav``.
- After an interruption only words that begin after its end are written, as in the authors' transcripts.
- What was written by something else is not replaced.
"""

import contextlib
import filecmp
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath

from duplex.atomic import atomic_write_text, clear_remains
from duplex.audio.decoding import Decoder
from duplex.audio.wav import WavWriter
from duplex.conversation.transcript import Chunk
from duplex.errors import OutputError
from duplex.evaluating.layout import Sample
from duplex.results.files import AGENT

__all__ = ["check_outputs", "counted", "write_outputs"]

RATE = 16000
Words = Sequence[Chunk]


def check_outputs(sample: Sample, results: Mapping[str, Path]) -> None:
    """Check that a sample has no outputs but those of these results, which are there by the name of its input.

    :raises OutputError: if it has those of something else
    """
    for given, wanted in sample.inputs.items():
        there = sample.folder / wanted
        if there.exists() and not _is_of(there, results[given] / AGENT):
            raise OutputError(
                f"{there} was written by something else, or with another --out; evaluate a copy of the benchmark, "
                "or replace it with --force"
            )


def counted(sample: Sample, words: Words) -> list[Chunk]:
    """Return the words that count."""
    after = sample.span[1] if sample.task == "user_interruption" and sample.span is not None else 0.0
    return [chunk for chunk in words if chunk["timestamp"][0] >= after]


def write_outputs(sample: Sample, results: Mapping[str, Path], words: Mapping[str, Words]) -> None:
    """Write a sample's outputs, the words last; results and words are there by the name of its input.

    :raises OutputError: if the disk refuses
    """
    for given, wanted in sample.inputs.items():
        clear_remains(sample.folder / wanted)
        _write_sound(results[given] / AGENT, sample.folder / wanted)
    for given, wanted in sample.inputs.items():
        path = sample.folder / PurePath(wanted).with_suffix(".json")
        said = counted(sample, words[given])
        content = {"text": " ".join(chunk["text"] for chunk in said), "chunks": said}
        clear_remains(path)
        atomic_write_text(path, json.dumps(content, indent=1) + "\n")


def _is_of(there: Path, agent: Path) -> bool:
    """Tell whether a file is what would be written of an agent's channel."""
    if not agent.is_file():
        return False
    with tempfile.TemporaryDirectory(prefix="duplex-") as folder:
        again = Path(folder) / there.name
        _write_sound(agent, again)
        return filecmp.cmp(there, again, shallow=False)


def _write_sound(agent: Path, target: Path) -> None:
    with (
        contextlib.closing(Decoder(agent, RATE, "mix")) as decoder,
        WavWriter(target, channels=1, sample_rate=RATE, synthetic="all") as writer,
    ):
        while (piece := decoder.read()) is not None:
            writer.write(piece)
