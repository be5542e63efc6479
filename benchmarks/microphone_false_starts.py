"""Whom the agent hears on a sound server with the loudspeaker's echo in the room: itself, or only the user.

    python benchmarks/microphone_false_starts.py
    python benchmarks/microphone_false_starts.py --stalls --times 4

Starts a PulseAudio of its own for each row, plays ``examples/conversation.wav`` to the built-in model, and prints a
table: false starts are the user's speech told while only the agent spoke. With ``--stalls`` the sound server stands
still for 40 to 80 ms every seven seconds or so, as on a busy machine.
"""

import argparse
import contextlib
import os
import random
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import anyio

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "transports"))
from room_support import Heard, converse
from sound_server_support import SoundServer

import duplex

RECORDING = Path(__file__).parent.parent / "examples" / "conversation.wav"


@contextlib.contextmanager
def stalling(server: SoundServer) -> Iterator[None]:
    """Let a sound server stand still now and then, during a block."""
    times, ended = random.Random(1), threading.Event()  # noqa: S311 -- no secret

    def stall() -> None:
        while not ended.wait(times.uniform(5, 9)):
            server.process.send_signal(signal.SIGSTOP)
            ended.wait(times.uniform(0.04, 0.08))
            server.process.send_signal(signal.SIGCONT)

    stalls = threading.Thread(target=stall)
    stalls.start()
    try:
        yield
    finally:
        ended.set()
        stalls.join()


async def hold(model: duplex.Model, echo_db: float, how: str, *, stalls: bool) -> Heard:
    """Hold one conversation in a room of its own."""
    with tempfile.TemporaryDirectory() as folder:
        server = SoundServer(Path(folder), echo=True, echo_db=echo_db)
        os.environ.update({name: value for name, value in server.environment.items() if name != "HOME"})
        server.start()
        try:
            with stalling(server) if stalls else contextlib.nullcontext():
                return await converse(server, model, RECORDING, how)
        finally:
            server.kill()


async def main() -> None:
    """Print a line for each level of the echo, with and without its cancellation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stalls", action="store_true", help="let the sound server stand still now and then")
    parser.add_argument("--times", type=int, default=1, help="conversations of each row (default: %(default)s)")
    arguments = parser.parse_args()
    print("| echo | echo cancellation | false starts | times the user cut in | of these heard | stutters |", flush=True)
    print("|---|---|---|---|---|---|", flush=True)
    with await duplex.load_async("tiny") as model:
        for echo_db in (-12.0, 0.0):
            for how in ("webrtc", "off"):
                held = [await hold(model, echo_db, how, stalls=arguments.stalls) for _ in range(arguments.times)]
                false = sum(len(each.false_starts()) for each in held)
                cut_in = [heard for each in held for heard in each.barge_ins()]
                stutters = sum(len(each.stutters) for each in held)
                print(f"| {echo_db:g} dB | {how} | {false} | {len(cut_in)} | {sum(cut_in)} | {stutters} |", flush=True)


if __name__ == "__main__":
    anyio.run(main)
