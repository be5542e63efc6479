"""The recording of a conversation on a server: what this end of the line hears, in the files of ``duplex process``.

A server sends no tokens, so there is no ``tokens.safetensors``. The two channels are aligned as they were heard here:
the agent's audio stands where it came while the user's was taken, and follows itself without gaps if it came in time.
"""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duplex.atomic import abandon, atomic_write_bytes, make_folder
from duplex.audio.synthetic_mark import Synthetic
from duplex.audio.wav import WavWriter
from duplex.conversation.transcript import Transcript
from duplex.events import AgentAudio, AgentText, Event
from duplex.results.files import AGENT, DIALOGUE, EVENTS, RUN, TRANSCRIPT
from duplex.results.subtitles import as_file

__all__ = ["RemoteWriter"]

Float32 = NDArray[np.float32]

_FILES: tuple[tuple[str, int, Synthetic], ...] = ((AGENT, 1, "all"), (DIALOGUE, 2, "right"))
"""Names, channels, and what of them is synthetic."""
_WORD, _PADDING = 0, -1
_JITTER_SECONDS = 0.4
"""By which the agent's audio may lag before a gap is put into its channel."""


class RemoteWriter:
    """Writes one recording to ``folder``, which it makes; used as :class:`duplex.results.writer.ResultWriter` is.

    :raises OutputError: if the folder or a file in it cannot be made
    """

    def __init__(self, folder: Path, sample_rate: int = 24000, frame_duration: float = 0.08) -> None:
        self.folder = folder
        self._rate = sample_rate
        self._frame_duration = frame_duration
        self._transcript = Transcript(_PADDING, _PADDING, frame_duration)
        self._next_frame = 0.0
        self._user: list[Float32] = []
        self._agent: list[Float32] = []
        self._user_samples = self._agent_samples = self._written = 0
        self._lines: list[str] = []
        self._done = False
        make_folder(folder)
        self._wavs: list[WavWriter] = []
        try:
            for name, channels, synthetic in _FILES:
                file = WavWriter(folder / name, channels=channels, sample_rate=sample_rate, synthetic=synthetic)
                self._wavs.append(file)
        except BaseException:
            self.discard()
            raise

    @property
    def due(self) -> bool:
        """Whether a second or more waits for :meth:`flush`."""
        return self._user_samples - self._written > 2 * self._rate

    def hear_user(self, pcm: Float32) -> None:
        """Take what the microphone gave, float32 ``[samples]``."""
        self._user.append(np.array(pcm))
        self._user_samples += pcm.size

    def hear_agent(self, pcm: Float32) -> None:
        """Take what the loudspeaker gets, float32 ``[samples]``."""
        gap = self._user_samples - self._agent_samples - pcm.size
        if gap > _JITTER_SECONDS * self._rate:
            self._agent.append(np.zeros(gap, np.float32))
            self._agent_samples += gap
        self._agent.append(np.array(pcm))
        self._agent_samples += pcm.size

    def event(self, event: Event) -> None:
        """Take an event."""
        if isinstance(event, AgentAudio):
            return
        self._lines.append(json.dumps(event.as_dict(), ensure_ascii=False))
        if isinstance(event, AgentText):
            if event.at > self._next_frame + self._frame_duration / 2:  # frames without text were padding
                self._transcript.feed(_PADDING, "", self._next_frame)
            self._transcript.feed(_WORD, event.text, event.at)
            self._next_frame = event.at + self._frame_duration

    def flush(self) -> None:
        """Write the sound that both sides have given.

        :raises OutputError: if the disk refuses
        """
        # A second stays: the agent's audio of this moment may still be on its way.
        self._write_until(self._user_samples - self._rate)

    def commit(self, run: Mapping[str, Any]) -> None:
        """Give all files their names; ``run.json`` comes last.

        :raises OutputError: if the disk refuses; nothing of this recording stays then
        """
        end = max(self._user_samples, self._agent_samples)
        self._write_until(end)
        self._transcript.finish(end / self._rate)
        for wav in self._wavs:
            wav.commit()
        atomic_write_bytes(self.folder / TRANSCRIPT, as_file(self._transcript.as_json()))
        lines = "".join(f"{line}\n" for line in self._lines)
        atomic_write_bytes(self.folder / EVENTS, lines.encode(errors="replace"))
        files = sorted((AGENT, DIALOGUE, TRANSCRIPT, EVENTS))
        atomic_write_bytes(self.folder / RUN, (json.dumps({**run, "files": files}, indent=1) + "\n").encode())
        self._done = True

    def discard(self) -> None:
        """Remove what was written and can be removed, unless it was committed; calling it twice is harmless."""
        if self._done:
            return
        for wav in self._wavs:
            wav.discard()
        for name in (AGENT, DIALOGUE, TRANSCRIPT, EVENTS):
            abandon(self.folder / name)
        with contextlib.suppress(OSError):  # something else is in it
            self.folder.rmdir()

    def _write_until(self, end: int) -> None:
        count = end - self._written
        if count <= 0:
            return
        user, self._user = _take(self._user, count)
        agent, self._agent = _take(self._agent, count)
        self._agent_samples = max(self._agent_samples, end)
        self._user_samples = max(self._user_samples, end)
        self._written = end
        self._wavs[0].write(agent)
        self._wavs[1].write(np.stack([user, agent], axis=1))


def _take(pieces: list[Float32], count: int) -> tuple[Float32, list[Float32]]:
    """Return the first ``count`` samples, with silence for what is missing, and the rest."""
    joined = np.concatenate([*pieces, np.zeros(0, np.float32)])
    taken = np.zeros(count, np.float32)
    taken[: min(count, joined.size)] = joined[:count]
    return taken, [joined[count:]]
