"""Where the sound server has this process's streams now: it moves them when a device goes, or when somebody asks."""

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping
from typing import IO

from duplex.transports.microphone.devices import AudioDevice, Direction
from duplex.transports.microphone.sound_server import devices_by_number, streams_of

__all__ = ["Moves"]

_LISTS: dict[Direction, tuple[str, str]] = {"input": ("source-outputs", "source"), "output": ("sink-inputs", "sink")}
_EVENTS = ("'change' on sink-input", "'change' on source-output")


class Moves:
    """Calls ``moved`` in a thread of its own with the number of a stream's device, and the devices by their numbers.

    Nothing is told where this process has streams on several devices of one direction: it is not known which is whose.
    """

    def __init__(self, moved: Callable[[Direction, int, Mapping[int, AudioDevice]], None]) -> None:
        self._moved = moved
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to listen to the server, where ``pactl`` is there.

        :raises OSError: if it cannot be started
        :raises RuntimeError: if there can be no thread; it does not run then
        """
        command = shutil.which("pactl")
        if command is None:
            return
        self._process = subprocess.Popen(  # noqa: S603
            [command, "subscribe"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C"},
            text=True,
        )
        if self._process.stdout is not None:
            thread = threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True)
            try:
                thread.start()
            except BaseException:
                self.close()
                raise
            self._thread = thread

    def close(self) -> None:
        """Listen no more. Calling it twice is harmless."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            if self._thread is not None:
                self._thread.join()
            if process.stdout is not None:
                process.stdout.close()

    def _listen(self, lines: IO[str]) -> None:
        for line in lines:
            if any(event in line for event in _EVENTS):
                self._look()

    def _look(self) -> None:
        for direction, (streams, device) in _LISTS.items():
            numbers = {int(stream[device]) for stream in streams_of(os.getpid(), streams) if device in stream}
            found = devices_by_number(direction) if len(numbers) == 1 else {}
            for number in numbers & found.keys():
                self._moved(direction, number, found)
