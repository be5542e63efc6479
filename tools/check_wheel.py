"""Try the wheel as a new user would: an empty environment, nothing of this repository but its recordings, each command.

    python tools/check_wheel.py dist/*.whl [--extras torch,plot,serve] [--python PYTHON] [--folder FOLDER] [--files]

What the wheel holds is told; then it is installed, with the versions of constraints.txt, and every line of README.md
that begins with `duplex` is run, and so is its program in Python. Those that need a microphone or a model of gigabytes
are told as not run. `duplex serve` is started, asked for its page, called once, and stopped. Tables are Markdown.
Returns 1 if something failed.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.request import urlopen

import attrs

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
MEGABYTE = 1e6
LONGEST = 1200
"""Seconds for one command; PyTorch is large."""
NOT_HERE = {"duplex talk": "needs a microphone", "kyutai/": "downloads 16 GB"}
CALL = """
import sys, wave, anyio, duplex

async def main():
    with wave.open("examples/question.wav") as file:
        pcm = file.readframes(file.getnframes())
    async with duplex.connect(sys.argv[1]) as conversation:
        async for event in conversation.run(pcm):
            if isinstance(event, duplex.AgentText):
                print(event.text, end="")

anyio.run(main)
"""


@attrs.frozen
class Outcome:
    """What came of a command, and in how many seconds."""

    command: str
    seconds: float | None
    told: str
    failed: bool = False


def main() -> int:
    """Print what the wheel holds and what came of each command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--extras", default="torch,plot,serve")
    parser.add_argument("--folder", type=Path, help="of the environment and the results; a new one if left out")
    parser.add_argument("--python", default=sys.executable, help="of the environment; this one if left out")
    parser.add_argument("--files", action="store_true", help="name every file of the wheel")
    given = parser.parse_args()
    print("\n".join(contents(given.wheel, every_file=given.files)), flush=True)
    folder = (given.folder or Path(tempfile.mkdtemp(prefix="duplex-wheel-"))).absolute()
    user = User(folder, given.python)
    print("\n| command | seconds | |\n|---|---|---|")
    failed = False
    for outcome in user.tries(given.wheel.absolute(), given.extras):
        seconds = "" if outcome.seconds is None else f"{outcome.seconds:.1f}"
        print(f"| `{outcome.command}` | {seconds} | {outcome.told} |", flush=True)
        failed |= outcome.failed
    return int(failed)


def contents(wheel: Path, *, every_file: bool) -> Iterator[str]:
    """Yield a table of what a wheel holds, by folder, or by file."""
    with zipfile.ZipFile(wheel) as archive:
        infos = [info for info in archive.infolist() if not info.is_dir()]
    unpacked = sum(info.file_size for info in infos)
    yield (
        f"{wheel.name}: {len(infos)} files, {wheel.stat().st_size / MEGABYTE:.1f} MB, "
        f"unpacked {unpacked / MEGABYTE:.1f} MB"
    )
    number, size = Counter[str](), Counter[str]()
    for info in infos:
        parts = Path(info.filename).parts
        name = info.filename if every_file else "/".join(parts[: 2 if len(parts) > 2 else 1])  # noqa: PLR2004 -- a folder below
        number[name] += 1
        size[name] += info.file_size
    yield "\n| in the wheel | files | kB |\n|---|---|---|"
    for name in sorted(number):
        yield f"| `{name}` | {number[name]} | {size[name] / 1e3:.0f} |"


class User:
    """Somebody with nothing but Python, in a folder of their own."""

    def __init__(self, folder: Path, python: str) -> None:
        self._python = python
        self._environment = folder / "environment"
        self._home = folder / "home"
        self._bin = self._environment / ("Scripts" if os.name == "nt" else "bin")
        shutil.copytree(ROOT / "examples", self._home / "examples", dirs_exist_ok=True)

    def tries(self, wheel: Path, extras: str) -> Iterator[Outcome]:
        """Install the wheel, and run each command of the README."""
        python = str(self._bin / "python")
        yield self._timed("python -m venv environment", [self._python, "-m", "venv", "--clear", self._environment])
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", CONSTRAINTS]
        installed = self._timed(
            f"pip install -c constraints.txt {wheel.name}[{extras}]", [*install, f"{wheel}[{extras}]"]
        )
        yield attrs.evolve(installed, told=installed.told if installed.failed else f"{self._megabytes():.0f} MB")
        if installed.failed:
            return
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        for line in ("duplex --version", "duplex doctor", *readme_commands(readme)):
            yield self._try(line)
        (program,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
        yield self._timed("the program in Python", [python, "-c", program])

    def _try(self, line: str) -> Outcome:
        reason = next((reason for part, reason in NOT_HERE.items() if part in line), None)
        if reason is not None:
            return Outcome(line, None, f"not run: {reason}")
        command, *arguments = line.split()
        if arguments[0] == "serve":
            return self._serve(line, arguments)
        return self._timed(line, [self._bin / command, *arguments])

    def _timed(self, line: str, command: Sequence[str | Path]) -> Outcome:
        began = time.monotonic()
        options = {"cwd": self._home, "env": self._variables(), "timeout": LONGEST}
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
        except subprocess.TimeoutExpired:
            return Outcome(line, LONGEST, "FAILED: it did not come to its end", failed=True)
        seconds = time.monotonic() - began
        said = (done.stdout.strip() or done.stderr.strip()).splitlines()
        last = said[-1].strip() if said else ""
        return Outcome(line, seconds, last if done.returncode == 0 else f"FAILED: {last}", done.returncode != 0)

    def _serve(self, line: str, arguments: Sequence[str]) -> Outcome:
        """Serve until a page has come and a call has been answered."""
        began = time.monotonic()
        command = [self._bin / "duplex", *arguments, "--port", "0"]
        with subprocess.Popen(
            command, cwd=self._home, env=self._variables(), stderr=subprocess.PIPE, text=True
        ) as server:
            told = iter(server.stderr or ())
            address = next((found[0] for line in told if (found := re.search(r"https?://\S+:\d+", line))), None)
            seconds = time.monotonic() - began
            if address is None:
                return Outcome(line, seconds, "FAILED: it did not start", failed=True)
            try:
                with urlopen(address, timeout=LONGEST) as page:  # noqa: S310 -- what the server has told
                    size = len(page.read())
                call = self._timed("a call", [self._bin / "python", "-c", CALL, address])
            finally:
                server.terminate()
        answer = f"listens; a page of {size} bytes; a call: {call.told}"
        return Outcome(line, seconds, answer, call.failed or server.returncode != 0)

    def _megabytes(self) -> float:
        return sum(path.lstat().st_size for path in self._environment.rglob("*") if path.is_file()) / MEGABYTE

    @staticmethod
    def _variables() -> dict[str, str]:
        """Return the environment without what would lend this repository's modules."""
        return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}


def readme_commands(readme: str) -> Iterator[str]:
    """Yield the lines of the README's shell blocks that begin with `duplex`, without their remarks, each once."""
    blocks = "\n".join(re.findall(r"```shell\n(.*?)```", readme, re.DOTALL))
    lines = (re.sub(r"\s+#.*", "", line).strip() for line in blocks.splitlines() if line.startswith("duplex "))
    yield from dict.fromkeys(lines)


if __name__ == "__main__":
    sys.exit(main())
