"""``duplex process --ray local`` on many short recordings: what a killed run leaves, and what Ray costs a recording.

    python benchmarks/ray_process.py --recordings 200 --broken 3

Recordings are pieces of those in ``examples/``, each from another place. Three things are done:

- a run is ended in the midst by SIGINT, and another by SIGKILL; each is run again. Rows, finished folders, what was
  done again, and what unfinished is left are counted.
- the same recordings are processed without Ray and with it. The pace is that at which folders are finished, from the
  first to the last, so that no start is in it; the cores' seconds are those of the command and all that it starts.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import wave
from pathlib import Path

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 3
ON_RAY = ("--ray", "local")


def main() -> None:
    """Print a table of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=int, default=200)
    parser.add_argument("--broken", type=int, default=3)
    parser.add_argument("--no-pace", action="store_true", help="Leave the comparison out.")
    parser.add_argument("--endings", nargs="*", default=["SIGINT", "SIGKILL"])
    given = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what was started in the background ignores it
    with tempfile.TemporaryDirectory(prefix="duplex-ray-") as name:
        folder = Path(name)
        make_recordings(folder / "recordings", given.recordings, given.broken)
        columns = ("ended by", "finished then", "unfinished files then", "and after", "done again", "rows")
        print("|", " | ".join((*columns, "distinct", "done", "failed")), "|")
        print("|---|---|---|---|---|---|---|---|---|")
        for ending in (signal.Signals[name] for name in given.endings):
            print(ended_and_run_again(folder, ending, given.recordings // 3), flush=True)
        if given.no_pace:
            return
        print("\n| | whole run, s | seconds a recording, without the start | cores' seconds a recording | load |")
        print("|---|---|---|---|---|")
        for told, options in (
            ("plain", ()),
            ("`--ray local --workers 1 --worker-cpus 2`", (*ON_RAY, "--workers", "1", "--worker-cpus", "2")),
            ("`--ray local`", ON_RAY),
        ):
            print(pace(folder, told, options), flush=True)


def make_recordings(folder: Path, count: int, broken: int) -> None:
    """Cut distinct pieces of the examples, and put some files among them that are no audio."""
    folder.mkdir()
    with wave.open(str(ROOT / "examples" / "conversation.wav")) as file:
        rate, channels = file.getframerate(), file.getnchannels()
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).reshape(-1, channels)[:, 0]
    for index in range(count - broken):
        start = index * (len(samples) - SECONDS * rate) // max(count - broken - 1, 1)
        with wave.open(str(folder / f"{index:04}.wav"), "wb") as file:
            file.setparams((1, 2, rate, 0, "NONE", ""))
            file.writeframes(samples[start : start + SECONDS * rate].tobytes())
    noise = random.Random(0)  # noqa: S311 -- no secret
    for index in range(broken):
        (folder / f"broken-{index}.wav").write_bytes(noise.randbytes(20_000))


def start(folder: Path, out: Path, options: tuple[str, ...]) -> "subprocess.Popen[bytes]":
    """Start the command in a session of its own, as a shell would a job."""
    command = [sys.executable, "-m", "duplex", "process", str(folder / "recordings"), "--out", str(out), *options]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, env=os.environ
    )


def finished(out: Path) -> dict[str, float]:
    """Return when each folder of results was finished."""
    return {path.parent.name: path.stat().st_mtime for path in out.glob("*/run.json")}


def ended_and_run_again(folder: Path, ending: signal.Signals, after: int) -> str:
    """End a run when so many are finished, run it again, and return a line of the table."""
    import pandas as pd  # noqa: PLC0415 -- it is Ray's

    out = folder / ending.name
    process = start(folder, out, ON_RAY)
    while len(finished(out)) < after and process.poll() is None:
        time.sleep(0.05)
    if ending == signal.SIGINT:
        os.killpg(process.pid, ending)  # as a terminal does
    else:
        process.send_signal(ending)
    process.wait()
    time.sleep(5)  # what the driver has started ends after it
    before, parts = finished(out), len(list(out.rglob("*.part")))
    status = start(folder, out, ON_RAY).wait()
    again = sum(finished(out)[name] != at for name, at in before.items())
    table = pd.read_parquet(out / "results.parquet")
    done, failed = ((table["status"] == each).sum() for each in ("done", "failed"))
    assert status == 1, "the broken ones have not been told"  # noqa: S101
    after = len(list(out.rglob("*.part")))
    cells = (ending.name, len(before), parts, after, again, len(table), table["name"].nunique(), done, failed)
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def pace(folder: Path, told: str, options: tuple[str, ...]) -> str:
    """Process all, and return a line of the table."""
    out = folder / f"pace-{len(options)}"
    began, process, spent = time.monotonic(), start(folder, out, options), {}
    while process.poll() is None:
        for each in [*(whole := psutil.Process(process.pid)).children(recursive=True), whole]:
            try:
                times = each.cpu_times()
            except psutil.Error:
                continue
            spent[each.pid] = times.user + times.system
        time.sleep(0.25)
    seconds, ends = time.monotonic() - began, sorted(finished(out).values())
    count = len(ends)
    return (
        f"| {told} | {seconds:.1f} | {(ends[-1] - ends[0]) / (count - 1):.3f} | {sum(spent.values()) / count:.2f} | "
        f"{os.getloadavg()[0]:.1f} |"
    )


if __name__ == "__main__":
    main()
