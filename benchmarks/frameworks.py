"""Have voice frameworks talk to `duplex serve`: the programs of `examples/`, and the frameworks' own clients.

    python benchmarks/frameworks.py [--livekit PYTHON] [--pipecat PYTHON] [--fastrtc PYTHON] [--pause SECONDS]

Each PYTHON is an interpreter of an environment that has the framework and `duplex-speech[client]`, without PyTorch:

    pip install -e '.[client]' livekit-plugins-openai==1.8.9 'livekit-plugins-nvidia[personaplex]==1.8.9'
    pip install -e '.[client]' 'pipecat-ai[openai,websocket]==1.14.0'
    pip install -e '.[client]' fastrtc

With `--pause` nothing is sent for so long before the question, as by a microphone that is switched off.
"""

import argparse
import json
import queue
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from anyio.from_thread import start_blocking_portal
from rich.console import Console
from rich.table import Table

import duplex
from duplex.server import Listening, Settings, serve

HERE = Path(__file__).parent
QUESTION = HERE.parent / "examples" / "question.wav"
ANSWER = "The capital of France is Paris."
CASES: dict[str, tuple[str, ...]] = {
    "livekit": ("livekit_duplex", "livekit_interrupt", "gpt_live", "personaplex"),
    "pipecat": ("pipecat_duplex", "pipecat_interrupt", "pipecat_live"),
    "fastrtc": ("fastrtc_handler",),
}
"""What each framework does: an example, one that is interrupted at the first word, or a client of the framework's."""
NO_PAUSE = ("fastrtc", "livekit_interrupt", "pipecat_interrupt")


def call(framework: str, interpreter: str, case: str, host: str, *, pause: float = 0.0) -> dict[str, Any]:
    """Have a framework ask the server at `host` ("127.0.0.1:8998"); return what it heard.

    :raises RuntimeError: if the framework's process failed
    """
    command: Sequence[str] = (interpreter, str(HERE / f"frameworks_{framework}.py"), case, host, str(QUESTION))
    done = subprocess.run(
        [*command, *([str(pause)] if pause else [])], capture_output=True, text=True, check=False, timeout=180 + pause
    )
    if done.returncode:
        raise RuntimeError(f"{case} ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-4000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def is_right(case: str, words: str) -> bool:
    """Tell whether the words are those of the answer, or where it was interrupted its first ones."""
    if case.endswith("_interrupt"):
        return words != ANSWER and ANSWER.startswith(words) and words != ""
    return words == ANSWER


def main() -> int:
    """Call with each framework that there is an interpreter of, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for framework in CASES:
        parser.add_argument(f"--{framework}", metavar="PYTHON")
    parser.add_argument("--pause", type=float, default=0.0)
    chosen = parser.parse_args()
    table = Table("case", "words", "agent's audio (s)", "right")
    failed = False
    port: queue.Queue[int] = queue.Queue()
    with duplex.load("tiny") as model, start_blocking_portal("asyncio") as portal:
        run = partial(serve, model, Settings(), Listening(port=0), started=port.put)
        serving = portal.start_task_soon(run)
        host = f"127.0.0.1:{port.get(timeout=30)}"
        for framework, cases in CASES.items():
            interpreter = getattr(chosen, framework)
            for case in cases if interpreter else ():
                pause = 0.0 if framework in NO_PAUSE or case in NO_PAUSE else chosen.pause
                heard = call(framework, interpreter, case, host, pause=pause)
                right = is_right(case, heard["words"]) and not heard.get("errors")
                failed |= not right
                table.add_row(case, heard["words"], f"{heard['seconds']:.2f}", "yes" if right else "NO")
                print(json.dumps({"case": case, **heard}))
        serving.cancel()
    Console().print(table)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
