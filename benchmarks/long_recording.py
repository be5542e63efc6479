"""Put an hour through the built-in model: is memory flat, how fast is it, what do slots side by side gain.

    python benchmarks/long_recording.py [--minutes 60] [--files 8]

Runs `duplex process` as a user would, on recordings made from examples/question.wav over and over, and watches the
memory of its process. Prints the peak of the first minute and of the rest, the real-time factor, and the time for
several files of one minute side by side and one after the other.
"""

import argparse
import subprocess
import sys
import tempfile
import time
import wave
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

SPEECH = Path(__file__).parent.parent / "examples" / "question.wav"
SETTLED = 60.0


def write_recording(path: Path, seconds: float) -> None:
    """Write the example again and again until ``seconds`` are full."""
    with wave.open(str(SPEECH), "rb") as source, wave.open(str(path), "wb") as target:
        target.setparams(source.getparams())
        speech, rate = source.readframes(source.getnframes()), source.getframerate()
        wanted = int(seconds * rate) * 2
        while wanted > 0:
            target.writeframesraw(speech[:wanted])
            wanted -= len(speech)


def watched(*arguments: str) -> tuple[float, list[tuple[float, float]]]:
    """Run a command of `duplex`; return its seconds and samples of (seconds, resident memory in MB)."""
    command = [sys.executable, "-m", "duplex", *arguments]
    start = time.perf_counter()
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    watched, samples = psutil.Process(running.pid), []
    while running.poll() is None:
        samples.append((time.perf_counter() - start, watched.memory_info().rss / 1e6))
        time.sleep(0.25)
    if running.returncode:
        sys.exit(running.stderr.read().decode() if running.stderr else "failed")
    return time.perf_counter() - start, samples


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--files", type=int, default=8)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_recording(folder / "long.wav", arguments.minutes * 60)
        seconds, samples = watched("process", str(folder / "long.wav"), "--out", str(folder / "long"))
        short = folder / "short"
        short.mkdir()
        for number in range(arguments.files):
            write_recording(short / f"{number}.wav", 60)
        one, _ = watched("process", str(short), "--out", str(folder / "one"), "--sessions", "1")
        side, _ = watched("process", str(short), "--out", str(folder / "side"), "--sessions", str(arguments.files))
    first = max(memory for at, memory in samples if at <= SETTLED)
    rest = max((memory for at, memory in samples if at > SETTLED), default=first)
    table = Table(f"{arguments.minutes:g} minutes through tiny", "")
    table.add_row("real-time factor", f"{seconds / (arguments.minutes * 60):.3f} ({seconds:.0f} s, start included)")
    table.add_row("peak memory in the first minute", f"{first:.0f} MB")
    table.add_row("peak memory after it", f"{rest:.0f} MB")
    table.add_row(f"{arguments.files} files of a minute, one after the other", f"{one:.1f} s")
    table.add_row(f"{arguments.files} files of a minute, side by side", f"{side:.1f} s ({one / side:.1f} times faster)")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
