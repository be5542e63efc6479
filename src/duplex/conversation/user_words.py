"""The user's words in a local conversation, as a transcriber hears them beside the model."""

import logging
import math
from collections.abc import Callable, Sequence

import anyio

from duplex.events import Event, UserSpeechStarted, UserSpeechStopped
from duplex.frame_model import Frame
from duplex.transcription.protocol import Missed, Transcription, Word

__all__ = ["UserWords"]

LAST_WORDS_SECONDS = 10.0
"""Seconds that a live conversation waits at its end for what the user said last."""
logger: logging.Logger = logging.getLogger(__name__)


class UserWords:
    """One conversation's transcription: told of its frames and turns, it tells ``found`` what it has understood."""

    def __init__(self, transcription: Transcription, found: Callable[[Word | Missed], None], *, realtime: bool) -> None:
        self._transcription = transcription
        self._found = found
        self._realtime = realtime
        self._ended = anyio.Event()

    async def hear(self, frame: Frame, events: Sequence[Event]) -> None:
        """Take the next frame and its events; of audio that is not live, wait until there is room for more."""
        self._transcription.hear(frame.at, frame.user_pcm)
        for event in events:
            if isinstance(event, UserSpeechStarted | UserSpeechStopped):
                self._transcription.turn(started=isinstance(event, UserSpeechStarted), at=event.at)
        if not self._realtime:
            await self._transcription.room()

    async def run(self) -> None:
        """Tell words as they come."""
        while True:
            try:
                found = await self._transcription.receive()
            except anyio.EndOfStream:
                break
            for each in found:
                self._found(each)
        self._ended.set()

    async def finish(self) -> None:
        """Wait for the last words."""
        self._transcription.finish()
        with anyio.move_on_after(LAST_WORDS_SECONDS if self._realtime else math.inf) as patience:
            await self._ended.wait()
        if patience.cancelled_caught:
            logger.warning("the last words of a conversation took more than %g s, and were left", LAST_WORDS_SECONDS)

    def close(self) -> None:
        """End the transcription, from any thread."""
        self._transcription.close()
