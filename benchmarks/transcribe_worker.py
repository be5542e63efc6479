"""Transcribes for `transcribe.py`, in an environment of its own: with the original `moshi` package, or with `duplex`.

    PYTHON transcribe_worker.py original|duplex '{"folder": ..., "codec": ..., "files": [...]}'

Prints as JSON the seconds by the clock and of the processor that loading and transcribing took, and the text of each
file. The original is run as its own command does (`moshi.run_inference`), in float32, file after file with the model
loaded once: it transcribes one at a time.
"""

import contextlib
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
"""How a tokenizer writes a space."""


class Stopwatch:
    """The clock's and the processor's time since it was made."""

    def __init__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        """Return both, in seconds."""
        clock, processor = self._began
        return {"clock": time.perf_counter() - clock, "processor": time.process_time() - processor}


def load_original(folder: Path, codec: dict[str, Any]) -> Callable[[list[str]], list[str]]:
    """Load with the original package; return what transcribes files."""
    torch: Any = import_module("torch")
    torch.set_grad_enabled(mode=False)
    inference: Any = import_module("moshi.run_inference")
    sphn: Any = import_module("sphn")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    parts = [folder / config[name] for name in ("moshi_name", "mimi_name", "tokenizer_name")]
    given = (folder / "config.json", folder / config["mimi_config_name"])
    info: Any = inference.loaders.CheckpointInfo.from_hf_repo(str(folder), *map(str, parts), *given)
    info.mimi_config = codec  # whole: the file may name only what differs from the published one
    mimi, tokenizer = info.get_mimi(device="cpu"), info.get_text_tokenizer()
    model: Any = info.get_moshi(device="cpu", dtype=torch.float32)

    def transcribe(files: list[str]) -> list[str]:
        state = inference.InferenceState(info, mimi, tokenizer, model, 1, 1.0, "cpu", **info.lm_gen_config)
        found: list[str] = []
        for file in files:
            pcm, _ = sphn.read(file, sample_rate=mimi.sample_rate)
            mimi.reset_streaming()
            state.lm_gen.reset_streaming()
            state.printer = printer = Kept()
            state.run(torch.from_numpy(pcm)[None, 0:1])
            found.append(tokenizer.decode_pieces([piece.replace(" ", SPACE) for piece in printer.pieces]))
        return found

    return transcribe


class Kept:
    """Stands in for the original's printer."""

    def __init__(self) -> None:
        self.pieces: list[str] = []

    def print_header(self) -> None:
        """Do nothing."""

    def log(self, *_: object) -> None:
        """Do nothing."""

    def print_token(self, piece: str) -> None:
        """Keep it."""
        self.pieces.append(piece)


def load_duplex(folder: Path, sessions: int) -> Callable[[list[str]], list[str]]:
    """Load with duplex; return what transcribes files."""
    anyio: Any = import_module("anyio")
    duplex: Any = import_module("duplex")
    process: Any = import_module("duplex.process")
    model = duplex.load(str(folder), backend="torch", device="cpu", dtype="float32", sessions=sessions)

    def transcribe(files: list[str]) -> list[str]:
        with tempfile.TemporaryDirectory() as out:
            results: Any = anyio.run(lambda: process.transcribe(model, files, out))
        for result in results:
            if result.error is not None:
                raise result.error
        return [result.user_text for result in results]

    return transcribe


def main() -> None:
    """Measure and print."""
    package, given = sys.argv[1], json.loads(sys.argv[2])
    folder, files = Path(given["folder"]), list(given["files"])
    with contextlib.redirect_stdout(io.StringIO()):
        loading = Stopwatch()
        transcribe = load_original(folder, given["codec"]) if package == "original" else load_duplex(folder, len(files))
        loaded, transcribing = loading.read(), Stopwatch()
        texts = transcribe(files)
        transcribed = transcribing.read()
    sys.stdout.write(json.dumps({"loading": loaded, "transcribing": transcribed, "texts": texts}))


if __name__ == "__main__":
    main()
