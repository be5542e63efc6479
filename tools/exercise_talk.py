"""Hold a call on the screen of `duplex talk`, and cancel echo, with whatever versions are installed here.

The microphone is a stand-in, that of the screen's own tests: nobody needs a sound card for this.
"""

import sys
import tempfile
from pathlib import Path

import anyio
import numpy as np

from duplex.talk.screen import TalkScreen
from duplex.testing import fake_model
from duplex.transports.microphone.echo import WebRtcProcessor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "talk"))
from talk_support import Headset, call_on, tone


async def main() -> None:
    """Raise what does not work."""
    with fake_model() as model, tempfile.TemporaryDirectory() as folder:
        call = call_on(model, Path(folder), Headset(tone(2.0)))
        screen = TalkScreen(call, hints=["What is the capital of France?"], devices=list)
        async with screen.run_test(size=(80, 24)) as pilot, anyio.create_task_group() as tasks:
            tasks.start_soon(call.run)
            await pilot.press("m", "m")
            with anyio.fail_after(60):
                while not call.state.utterances:
                    await pilot.pause(0.05)
            await pilot.press("q")
    rate = 24000
    block = np.zeros(rate // 100, np.float32)
    processor = WebRtcProcessor(rate, echo_cancellation=True, noise_suppression=True, gain_control=True)
    heard = processor.process(block, block)
    if heard.shape != block.shape:
        raise SystemExit(f"{heard.shape} came back for {block.shape}")


if __name__ == "__main__":
    anyio.run(main)
