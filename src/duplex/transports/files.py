"""A recording as the user's side of a conversation, a wav file for the agent's."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import anyio
import anyio.to_thread
import numpy as np
from numpy.typing import NDArray

from duplex.audio.folders import AUDIO_SUFFIXES
from duplex.audio.pcm import UserChannel, check_rate
from duplex.audio.wav import WavWriter
from duplex.errors import ClosedError, UsageError

if TYPE_CHECKING:  # importing PyAV takes a tenth of a second, which `import duplex` does not have
    from duplex.audio.decoding import Decoder

__all__ = ["AUDIO_SUFFIXES", "FileTransport", "probe_duration"]


def probe_duration(path: str | os.PathLike[str]) -> float | None:
    """Return the length in seconds that a recording's headers tell, for a progress bar; ``None`` if unknown.

    Blocking, but quick: nothing is decoded. A file that cannot be read is unknown too; opening it tells why.
    """
    from duplex.audio import containers  # noqa: PLC0415 -- it imports PyAV

    return containers.probe_duration(Path(path))


class FileTransport:
    """Reads ``path`` as the user's audio, and writes the agent's to the wav file ``output``, if given.

    Anything that PyAV decodes is read: wav, flac, mp3, ogg, opus, m4a, mka, video with sound, at any sample rate. Of
    several channels ``user_channel`` takes the first (``"left"``), the second (``"right"``) or the mean of all
    (``"mix"``); mono is taken as it is. About a second is held in memory at a time. ``output`` appears under its name
    in :meth:`finish`, complete; :meth:`aclose` without it leaves nothing behind.

    :raises UsageError: if ``user_channel`` is none of the three
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        output: str | os.PathLike[str] | None = None,
        *,
        user_channel: UserChannel = "mix",
    ) -> None:
        if user_channel not in get_args(UserChannel):
            raise UsageError(f"user_channel is {user_channel!r}; give 'left', 'right' or 'mix'")
        self.path: Path = Path(path)
        self._content: Path | None = None
        self.output: Path | None = None if output is None else Path(output)
        self._user_channel: UserChannel = user_channel
        self._decoder: Decoder | None = None
        self._writer: WavWriter | None = None
        self._unwritten: list[NDArray[np.float32]] = []
        self._sample_rate = 0
        self._closed = False

    @property
    def realtime(self) -> bool:
        """False: a file waits for the model, and every sample is heard."""
        return False

    async def start(self, sample_rate: int) -> None:
        """Open both files.

        :raises AudioError: if ``sample_rate`` is out of range
        :raises AudioFileError: if ``path`` is missing, is no recording, has no sound, or may not be read
        :raises OutputError: if ``output`` cannot be written
        :raises UsageError: if the transport has been started before
        :raises ClosedError: after :meth:`aclose`
        """
        if self._closed:
            raise ClosedError(f"the transport of {self.path} has been closed; make another")
        if self._decoder is not None:
            raise UsageError(f"the transport of {self.path} has been started already; make one for each conversation")
        self._sample_rate = check_rate(sample_rate)
        await anyio.to_thread.run_sync(self._open)

    async def receive(self) -> NDArray[np.float32]:
        """Return the next second or so of the recording, float32 ``[samples]``.

        :raises anyio.EndOfStream: when the recording is over
        :raises AudioFileError: if it is damaged, has no samples, or holds NaN or infinity; the message has the time
        :raises ClosedError: after :meth:`aclose`
        :raises UsageError: before :meth:`start`
        """
        if self._decoder is None:
            raise UsageError(f"the transport of {self.path} has not been started; await start(sample_rate) first")
        piece = await anyio.to_thread.run_sync(self._decoder.read)
        if piece is None:
            raise anyio.EndOfStream
        return piece

    async def send(self, pcm: NDArray[np.float32]) -> None:
        """Write the agent's next float32 ``[samples]``, clipped to 16 bit, or drop them without an ``output``.

        :raises OutputError: if the disk refuses
        :raises ClosedError: after :meth:`finish` or :meth:`aclose`
        """
        if self.output is None:
            return
        if self._writer is None:
            raise ClosedError(f"{self.output} is not open for the agent's audio; send between start and finish")
        self._unwritten.append(np.array(pcm, dtype=np.float32))
        # A thread for every frame would cost more than the writing: about a second is gathered first.
        if sum(piece.size for piece in self._unwritten) >= self._sample_rate:
            await anyio.to_thread.run_sync(self._write)

    async def finish(self) -> None:
        """Complete ``output`` under its name; calling it twice is harmless.

        :raises OutputError: if the disk refuses
        """
        if self._writer is not None:
            await anyio.to_thread.run_sync(self._complete)

    async def aclose(self) -> None:
        """Close both files, discarding an ``output`` that was not finished; calling it twice is harmless."""
        self._closed = True
        # Shielded: a cancelled conversation must not leave a temporary file behind.
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._close)

    def _open(self) -> None:
        from duplex.audio.decoding import Decoder  # noqa: PLC0415 -- it imports PyAV

        decoder = Decoder(self.path, self._sample_rate, self._user_channel, content=self._content)
        try:
            if self.output is not None:
                self._writer = WavWriter(self.output, channels=1, sample_rate=self._sample_rate, synthetic="all")
        except BaseException:
            decoder.close()
            raise
        self._decoder = decoder

    def _write(self) -> None:
        if self._writer is not None and self._unwritten:
            pieces, self._unwritten = self._unwritten, []
            self._writer.write(np.concatenate(pieces))

    def _complete(self) -> None:
        self._write()
        if self._writer is not None:
            self._writer.commit()
            self._writer = None

    def _close(self) -> None:
        self._unwritten = []
        if self._writer is not None:
            self._writer.discard()
            self._writer = None
        if self._decoder is not None:
            self._decoder.close()
