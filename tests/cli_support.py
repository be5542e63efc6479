"""The command line in the test's process and in one of its own, and recordings to give it."""

import contextlib
import io
import logging
import os
import struct
import subprocess
import sys
import wave
from pathlib import Path
from unittest import mock

import attrs
import numpy as np
import pytest
from safetensors.numpy import load_file

from duplex.cli import main

REFERENCE = Path(__file__).parent / "data" / "reference"
SMALL, DELAY2 = str(REFERENCE / "small"), str(REFERENCE / "delay2")
RATE = 24000
FRAME = 1920
COMMAND = [sys.executable, "-W", "error", "-m", "duplex"]


@attrs.frozen
class Outcome:
    status: int
    out: str
    err: str

    def errors(self):
        """The error lines; all that a user may see of what went wrong."""
        assert "Traceback" not in self.err + self.out
        return [line for line in self.err.splitlines() if line.startswith("duplex: error: ")]

    def only_error(self):
        """The one line that a failure prints."""
        assert self.err.count("\n") == 1, self.err
        (line,) = self.errors()
        return line


def run(*arguments):
    """Run the command in this process, which has imported torch already; warnings are errors."""
    out, err = io.StringIO(), io.StringIO()
    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.dict(os.environ),
        mock.patch.object(sys, "warnoptions", ["error"]),
    ):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as ended:
            status = ended.code
        finally:
            hub.setLevel(level)
    return Outcome(status, out.getvalue(), err.getvalue())


def spawn(*arguments, prefix=(), **options):
    """Run the command as a user does."""
    line = [*prefix, *COMMAND, *(str(argument) for argument in arguments)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False, **options)
    return Outcome(done.returncode, done.stdout, done.stderr)


def noise(seconds, *, channels=1, rate=RATE, seed=0):
    """Float32 ``[samples, channels]``."""
    samples = np.random.default_rng(seed).standard_normal((round(seconds * rate), channels))
    return (0.1 * samples).astype(np.float32)


def write_wav(path, pcm, rate=RATE):
    """Write 16-bit sound, float32 ``[samples, channels]``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if pcm.ndim == 1 else pcm.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.rint(pcm * 32767).astype("<i2").tobytes())
    return path


def write_float_wav(path, pcm, rate=RATE):
    """Write mono float sound exactly as it is, float32 ``[samples]``."""
    data = np.asarray(pcm, "<f4").tobytes()
    header = struct.pack("<HHIIHH", 3, 1, rate, rate * 4, 4, 32)
    path.write_bytes(
        b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + struct.pack("<I", 16) + header
        + b"data" + struct.pack("<I", len(data)) + data
    )  # fmt: skip
    return path


def read_wav(path):
    """Return int16 ``[samples, channels]``."""
    with wave.open(str(path)) as file:
        assert (file.getsampwidth(), file.getframerate()) == (2, RATE)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels())


def tokens_of(folder):
    return load_file(folder / "tokens.safetensors")


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


def vanishing(monkeypatch, folder, away):
    """Let a folder go the moment that somebody looks into it, who has seen its name: it is moved out of the way."""
    scandir = os.scandir

    def after_it_has_gone(path="."):
        if Path(path) == folder and folder.exists():
            folder.rename(away)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", after_it_has_gone)


@contextlib.contextmanager
def full_disk(room):
    """Let the system refuse what would make a file longer than ``room`` bytes, as a full disk does."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
