"""Whom the agent hears on a sound server with the loudspeaker's echo in the room: itself, or only the user.

    python benchmarks/microphone_false_starts.py

Starts a PulseAudio of its own for each row, plays ``examples/conversation.wav`` to the built-in model, and prints a
table: false starts are the user's speech told while only the agent spoke.
"""

import os
import sys
import tempfile
from pathlib import Path

import anyio

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "transports"))
from room_support import converse
from sound_server_support import SoundServer

import duplex

RECORDING = Path(__file__).parent.parent / "examples" / "conversation.wav"


async def main() -> None:
    """Print a line for each level of the echo, with and without its cancellation."""
    print(
        "| echo | echo cancellation | false starts | times the user cut in | of these heard | stutters |",
        flush=True,
    )
    print("|---|---|---|---|---|---|", flush=True)
    with await duplex.load_async("tiny") as model:
        for echo_db in (-12.0, 0.0):
            for how in ("webrtc", "off"):
                with tempfile.TemporaryDirectory() as folder:
                    server = SoundServer(Path(folder), echo=True, echo_db=echo_db)
                    os.environ.update({name: value for name, value in server.environment.items() if name != "HOME"})
                    server.start()
                    try:
                        heard = await converse(server, model, RECORDING, how)
                    finally:
                        server.kill()
                cut_in = heard.barge_ins()
                false = len(heard.false_starts())
                print(
                    f"| {echo_db:g} dB | {how} | {false} | {len(cut_in)} | {sum(cut_in)} | {len(heard.stutters)} |",
                    flush=True,
                )


if __name__ == "__main__":
    anyio.run(main)
