"""The audio line of a call: a microphone transport that can be exchanged while the conversation goes on."""

from collections.abc import Callable
from typing import Protocol, TypeAlias

import anyio
import numpy as np
from numpy.typing import NDArray

from duplex.errors import AudioDeviceError, ClosedError
from duplex.transport import ExpectantTransport, Transport
from duplex.transports import MicrophoneStats

__all__ = ["Device", "MakeMicrophone", "Microphone", "TalkLine", "Tap"]

Float32 = NDArray[np.float32]
Device: TypeAlias = int | str | None
"""A number, a part of a name, or the system's default."""


class Microphone(Transport, Protocol):
    """What the line needs of :class:`duplex.MicrophoneTransport`."""

    muted: bool

    @property
    def stats(self) -> MicrophoneStats:
        """Devices, levels, clocks and faults at this moment."""
        ...


MakeMicrophone: TypeAlias = Callable[[Device, Device], Microphone]
"""Makes a transport for an input and an output device."""


class Tap(Protocol):
    """Listens to both sides of the line."""

    def hear_user(self, pcm: Float32) -> None:
        """Take what the microphone gave, float32 ``[samples]``."""
        ...

    def hear_agent(self, pcm: Float32) -> None:
        """Take what the loudspeaker gets, float32 ``[frame_size]``."""
        ...


class TalkLine:
    """A :class:`duplex.Transport` over one microphone after another.

    :meth:`choose` opens other devices: what comes meanwhile is lost in both directions, as when one is unplugged.
    """

    def __init__(self, make: MakeMicrophone, input_device: Device, output_device: Device) -> None:
        self._make = make
        self._chosen = (input_device, output_device)
        self._microphone = make(input_device, output_device)
        self._rate = 0
        self._switched: anyio.Event | None = None
        self._failure: AudioDeviceError | None = None
        self._ended = self._closed = False
        self.tap: Tap | None = None

    @property
    def realtime(self) -> bool:
        """What the microphone says: True, as nobody holds a voice back."""
        return self._microphone.realtime

    @property
    def stats(self) -> MicrophoneStats:
        """The microphone's, at this moment."""
        return self._microphone.stats

    @property
    def chosen(self) -> tuple[Device, Device]:
        """The input and the output that were asked for."""
        return self._chosen

    @property
    def muted(self) -> bool:
        """Whether silence is heard in the user's place."""
        return self._microphone.muted

    @muted.setter
    def muted(self, muted: bool) -> None:
        self._microphone.muted = muted

    def end(self) -> None:
        """Say that the user's audio is over."""
        self._ended = True

    async def choose(self, input_device: Device, output_device: Device) -> None:
        """Go on with other devices; if they do not open, with the ones before.

        :raises AudioDeviceError: if they do not open
        """
        if self._switched is not None or self._closed or not self._rate:
            return
        self._switched = anyio.Event()
        try:
            await self._microphone.aclose()
            await self._replace(input_device, output_device)
        finally:
            switched, self._switched = self._switched, None
            switched.set()

    async def _replace(self, input_device: Device, output_device: Device) -> None:
        before = self._chosen
        try:
            await self._open(input_device, output_device)
        except AudioDeviceError:
            try:
                await self._open(*before)
            except AudioDeviceError as error:
                self._failure = error
            raise

    async def _open(self, input_device: Device, output_device: Device) -> None:
        muted = self._microphone.muted
        microphone = self._make(input_device, output_device)
        opened = False
        try:
            await microphone.start(self._rate)
            opened = not self._closed  # who closed the line meanwhile has closed the microphone before this one
        finally:
            if not opened:
                with anyio.CancelScope(shield=True):
                    await microphone.aclose()
        if opened:
            microphone.muted = muted
            self._microphone, self._chosen = microphone, (input_device, output_device)

    async def start(self, sample_rate: int) -> None:
        """Open the devices.

        :raises AudioDeviceError: if there are none
        """
        await self._microphone.start(sample_rate)
        self._rate = sample_rate

    async def receive(self) -> Float32:
        """Wait for the user's next audio, float32 ``[samples]``.

        :raises anyio.EndOfStream: after :meth:`end`
        :raises AudioDeviceError: if no device is left
        """
        while not self._ended:
            microphone = self._microphone
            try:
                pcm = await microphone.receive()
            except ClosedError:
                await self._wait_for_another(microphone)
                continue
            if self.tap is not None:
                self.tap.hear_user(pcm)
            return pcm
        raise anyio.EndOfStream

    def expect(self, samples: int) -> None:
        """Say that so many samples make a frame full."""
        if isinstance(self._microphone, ExpectantTransport):
            self._microphone.expect(samples)

    async def send(self, pcm: Float32) -> None:
        """Play a frame of the agent's audio, float32 ``[frame_size]``."""
        if self.tap is not None:
            self.tap.hear_agent(pcm)
        while True:
            microphone = self._microphone
            try:
                await microphone.send(pcm)
            except ClosedError:
                await self._wait_for_another(microphone)
            else:
                return

    async def finish(self) -> None:
        """Wait until all of the agent's audio has been heard."""
        await self._microphone.finish()

    async def aclose(self) -> None:
        """Release the devices. Calling it twice is harmless."""
        self._closed = True
        await self._microphone.aclose()

    async def _wait_for_another(self, closed: Microphone) -> None:
        """Wait until devices have been exchanged.

        :raises ClosedError: if they have not
        """
        if self._switched is not None:
            await self._switched.wait()
        if self._failure is not None:
            raise self._failure
        if self._closed or closed is self._microphone:
            raise ClosedError("the line has been closed; start another conversation")
