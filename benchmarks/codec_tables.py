"""The tables of `codec_quality.py`: each takes a part of the figures and returns what is printed."""

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from codec_paths import PATHS

__all__ = ["tables"]

Figures = dict[str, Any]
LABELS = {"codec": "codec", "unquantized": "unquantized", "opus": "Opus", "original": "original"}


def tables(figures: Figures) -> Iterator[Table]:
    """Return a table for each part of the figures that is there."""
    yield _words(figures["words"])
    yield _sound(figures["sound"], figures["bitrate"])
    yield from _naturalness(figures["naturalness"])
    yield _codebooks(figures["codebooks"])
    yield _generations(figures["generations"])
    yield _levels(figures)
    if "probe" in figures:
        yield _probe(figures["probe"])
    if "against_original" in figures:
        yield _original(figures["against_original"])


def _words(figures: Figures) -> Table:
    table = Table(
        "voice", "words", *(LABELS[path] for path in PATHS), title="Word error rate by Whisper tiny, %; +points"
    )
    for voice, found in figures.items():
        cells = [f"{found['original']['rate']:.1f}"]
        for path in PATHS[1:]:
            low, high = found[path]["interval"]
            cells.append(f"{found[path]['rate']:.1f}  {found[path]['above']:+.1f} ({low:+.1f}, {high:+.1f})")
        table.add_row(voice, str(found["words"]), *cells)
    return table


def _sound(figures: Figures, bitrate: Figures) -> Table:
    names = [f"{LABELS[path]} {measure}" for measure in ("PESQ", "mel") for path in PATHS[1:]]
    rates = ", ".join(f"{LABELS[path]} {rate:.0f}" for path, rate in bitrate.items())
    table = Table("voice", *names, title=f"PESQ (wideband) and mel distance; bits a second: {rates}")
    for voice, found in figures.items():
        cells = [f"{found[path][measure]:.2f}" for measure in ("pesq", "mel") for path in PATHS[1:]]
        table.add_row(voice, *cells)
    return table


def _naturalness(figures: Figures) -> Iterator[Table]:
    table = Table("voice", *(LABELS[path] for path in PATHS), title="DNSMOS: overall, speech, background")
    for voice, found in figures.items():
        if found is not None:
            cells = [", ".join(f"{score:.2f}" for score in found[path].values()) for path in PATHS]
            table.add_row(voice, *cells)
    if table.rows:
        yield table


def _codebooks(figures: Figures) -> Table:
    count = len(figures["agent"]["codebooks"])
    table = Table("voices", "", *(str(index + 1) for index in range(count)), title="Use of the codebooks")
    for group, found in figures.items():
        rows = found["codebooks"]
        table.add_row(f"{group}, {found['frames']} frames", "entropy, bits", *(f"{row['entropy']:.2f}" for row in rows))
        table.add_row("", "perplexity", *(f"{row['perplexity']:.0f}" for row in rows))
        table.add_row("", "entries used, %", *(f"{100 * row['used']:.0f}" for row in rows))
    return table


def _generations(figures: Figures) -> Table:
    title = f"Round trips, {figures['words']} words in the agent's voice"
    table = Table("trips", "WER %", "mel to the first", "codes as before: first %", "others %", title=title)
    for trips, found in figures.items():
        if trips in {"words", "recordings"}:
            continue
        shares = [f"{100 * found[name]:.1f}" if name in found else "" for name in ("first_equal", "others_equal")]
        table.add_row(trips, f"{found['rate']:.1f}", f"{found['mel_to_first']:.3f}", *shares)
    return table


def _levels(figures: Figures) -> Table:
    quiet, peaks, speed = figures["silence"], figures["clipping"], figures["speed"]
    table = Table("silence, peaks, speed", "")
    table.add_row("out of digital silence", f"{quiet['digital_silence']:.1f} dBFS")
    table.add_row("out of noise at -70 dBFS", f"{quiet['noise_at_-70']:.1f} dBFS")
    table.add_row("out of silence after speech", f"{quiet['silence_after_speech']:.1f} dBFS")
    beyond = f"{peaks['beyond_full_scale']} of {peaks['samples']} samples beyond 1"
    table.add_row("largest sample out, for a peak of 0.98 in", f"{peaks['largest']:.3f}; {beyond}")
    for name, taken in speed.items():
        both = f"{taken['median']:.2f} ms; 95 % below {taken['percentile_95']:.2f} ms"
        table.add_row(f"{name} a frame on one core, median", both)
    return table


def _probe(figures: Figures) -> Table:
    title = f"Phoneme error rate of a probe trained on {figures['minutes']:g} minutes of speech, %"
    columns = {
        "first": "first codebook",
        "all": "all codebooks",
        "guess": "another sentence's codes",
        "mel_clusters": "clusters of mel spectra",
        "teacher_clusters": "clusters of the teacher's features",
    }
    table = Table("voice", *columns.values(), title=title)
    for voice in figures["first"]:
        table.add_row(voice, *(f"{figures[name][voice]:.1f}" for name in columns))
    return table


def _original(figures: Figures) -> Table:
    table = Table("the original package, same file", "")
    table.add_row("codes that differ", f"{figures['codes_different']} of {figures['codes']}")
    table.add_row(
        "largest difference of audio", f"{figures['audio_difference']:.1e} (peak {figures['audio_peak']:.2f})"
    )
    table.add_row("computes in", figures["dtype"])
    table.add_row("its loader takes the file", figures["refused"] or "yes")
    return table
