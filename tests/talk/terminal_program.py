"""A call on the terminal of this process, with a model and a microphone that need nothing: for test_terminal.py."""

import os
import sys
from pathlib import Path

import anyio
from talk_support import Headset, call_on

from duplex.talk.screen import show_screen
from duplex.testing import fake_model


class Broken(Headset):
    """A microphone whose statistics fail after a while, as a mistake in the screen would."""

    count = 0

    @property
    def stats(self):
        self.count += 1
        if self.count > 5:
            raise ArithmeticError("a mistake")
        return self._stats

    @stats.setter
    def stats(self, values):
        self._stats = values


class Noisy(Headset):
    """A microphone whose library writes on standard error, as PortAudio and ALSA do."""

    async def receive(self):
        os.write(2, b"ALSA lib pcm.c: underrun occurred\n")
        return await super().receive()


MICROPHONES = {"broken": Broken, "noisy": Noisy}


async def hold(folder, microphone):
    with fake_model() as model:
        call = call_on(model, folder, microphone)
        status = await show_screen(call, hints=["What is the capital of France?"], devices=list, record=True)
        if call.error is not None:
            raise call.error
        return status


if __name__ == "__main__":
    sys.exit(anyio.run(hold, Path(sys.argv[1]), MICROPHONES.get(sys.argv[-1], Headset)()))
