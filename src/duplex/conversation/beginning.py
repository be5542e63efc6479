"""How a local conversation comes to its seat: what it begins with is prepared, and a free one is waited for."""

from collections.abc import Callable
from functools import partial

import anyio
import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.checkpoints.voices import Voices
from duplex.concurrency.notifiers import ThreadsafeNotifier, weak_callback
from duplex.engine.model import Model
from duplex.engine.seating import HeldSeat
from duplex.errors import CapacityError
from duplex.frame_model import SessionState
from duplex.options import SessionOptions
from duplex.prompting.building import build_prompt
from duplex.prompting.prompt import Prompt

__all__ = ["Beginning"]


@attrs.frozen(kw_only=True, eq=False)
class Beginning:
    """What a conversation begins with: a saved ``state``, or a persona and a ``history``, or nothing."""

    model: Model
    options: SessionOptions
    state: SessionState | None
    history: NDArray[np.int64] | None
    voices: Voices | None
    realtime: bool
    wait: float | None
    """Seconds to wait for a seat, where none is free."""

    async def build_prompt(self) -> Prompt | None:
        """Return what the model hears and says before the conversation, made in a thread; ``None`` for nothing."""
        given = (self.options.instructions, self.options.voice, self.history)
        if self.state is not None or all(each is None for each in given):
            return None
        return await anyio.to_thread.run_sync(self._build_prompt)

    async def take_seat(self, prompt: Prompt | None, notify: Callable[[], None]) -> HeldSeat:
        """Take a free slot of the model, which calls ``notify`` from its thread when there is something to take.

        :raises CapacityError: if there is none within the time
        """
        vacancy = ThreadsafeNotifier()
        with self.model.seating.vacancies(weak_callback(vacancy.notify)), anyio.move_on_after(self.wait or 0):
            while True:
                try:
                    return await self._open_seat(prompt, notify)
                except CapacityError:
                    await vacancy.wait()
        return await self._open_seat(prompt, notify)

    async def _open_seat(self, prompt: Prompt | None, notify: Callable[[], None]) -> HeldSeat:
        return await self.model.seating.take_seat(
            self.options, realtime=self.realtime, notify=notify, state=self.state, prompt=prompt
        )

    def _build_prompt(self) -> Prompt | None:
        model = self.model
        return build_prompt(
            model.spec,
            partial(model.voice_codes.encode, model.codec),
            model.tokenizer,
            self.voices or model.voices,
            self.options,
            history=self.history,
            files=self.voices is None,
        )
