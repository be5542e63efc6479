"""The microphone and the loudspeaker of this machine as a conversation's audio line."""

from collections.abc import Callable
from functools import partial

import anyio
import anyio.to_thread
import numpy as np
from numpy.typing import NDArray

from duplex.concurrency.notifiers import ThreadsafeNotifier
from duplex.errors import AudioDeviceError, ClosedError, UsageError
from duplex.transports.microphone.echo import EchoCancellation, EchoCanceller, WebRtcProcessor
from duplex.transports.microphone.hardware import Hardware
from duplex.transports.microphone.line import Line
from duplex.transports.microphone.meters import MicrophoneStats
from duplex.transports.microphone.notices import Notices
from duplex.transports.microphone.portaudio import PortAudio
from duplex.transports.microphone.streams import SoundSystem

__all__ = ["MicrophoneTransport"]

Float32 = NDArray[np.float32]

_POLL_SECONDS = 0.02
_SOON_SECONDS = 0.004
"""Until what was played is looked for again, where only that is missing."""
_LEFT_SECONDS = 10.0
"""For how long devices that have all gone may come back before the conversation ends."""
RETRY_SECONDS = 0.25


class MicrophoneTransport:
    """Hears the user by a microphone and plays the agent by a loudspeaker, without the echo of one in the other.

    ``input`` and ``output`` are a device's number or a part of its name (:func:`duplex.transports.list_devices`), the
    system's default ones otherwise; they are opened at their own rates. With ``echo_cancellation="webrtc"`` what was
    played is taken out of what is heard; give ``"off"`` with headphones, or where the system does it. Noise suppression
    and gain control are WebRTC's too. ``on_notice`` is called in the event loop with one line for people: a device
    that is gone, another that was opened, a microphone that is silent or clipped. ``system`` opens the devices,
    PortAudio by default.

    When a device disappears, the conversation goes on: silence stands in (see :class:`duplex.Transport`), and as soon
    as there is another, that is opened. The user's audio ends with :meth:`end`, or never.

    :raises MissingDependencyError: if the extra `talk` is not installed
    """

    def __init__(
        self,
        input: int | str | None = None,  # noqa: A002 -- the contract's name
        output: int | str | None = None,
        *,
        echo_cancellation: EchoCancellation = "webrtc",
        noise_suppression: bool = True,
        gain_control: bool = True,
        on_notice: Callable[[str], None] | None = None,
        system: SoundSystem | None = None,
    ) -> None:
        if echo_cancellation not in {"webrtc", "off"}:
            raise UsageError(f"echo_cancellation is {echo_cancellation!r}; give 'webrtc' or 'off'")
        self.muted: bool = False
        """Whether silence is heard in the user's place."""
        self._hardware = Hardware(PortAudio() if system is None else system, input, output)
        self._cancels_echo = echo_cancellation == "webrtc"
        self._processing = partial(WebRtcProcessor, noise_suppression=noise_suppression, gain_control=gain_control)
        self._processes = self._cancels_echo or noise_suppression or gain_control
        self._notices = Notices(on_notice)
        self._line: Line | None = None
        self._came: ThreadsafeNotifier | None = None
        self._heard: list[Float32] = []
        self._expected = 0
        self._has_heard = False
        self._names: tuple[str, str] | None = None
        self._ended = self._finished = self._closed = self._lost = False

    @property
    def realtime(self) -> bool:
        """True: nobody holds a voice back."""
        return True

    @property
    def stats(self) -> MicrophoneStats:
        """Devices, levels, clocks and faults at this moment."""
        return self._hardware.stats(self._line)

    async def start(self, sample_rate: int) -> None:
        """Open the devices; ``sample_rate`` is that of the conversation.

        :raises AudioDeviceError: if there is none, not the one that was named, or if the system refuses it
        :raises UsageError: if the transport has been started before, or for a rate that is no multiple of 100
        :raises ClosedError: after :meth:`aclose`
        """
        if self._closed:
            raise ClosedError("the transport has been closed; make another")
        if self._line is not None:
            raise UsageError("the transport has been started already; make one for each conversation")
        if sample_rate < 1 or sample_rate % 100:
            raise UsageError(f"the sample rate is {sample_rate}; give a multiple of 100 Hz")
        self._line = Line(sample_rate, self._canceller(sample_rate), cancels_echo=self._cancels_echo)
        self._came = ThreadsafeNotifier()
        await anyio.to_thread.run_sync(self._hardware.open, self._line)

    async def receive(self) -> Float32:
        """Wait for the user's next audio, float32 ``[samples]``: what is expected, or some 20 ms.

        :raises anyio.EndOfStream: after :meth:`end`
        :raises AudioDeviceError: if no device is left
        :raises ClosedError: after :meth:`aclose`
        """
        line = self._started()
        while not self._ended:
            if not self._hardware.is_alive():
                await self._reopen(line)
            wanted = self._expected or round(_POLL_SECONDS * line.rate)
            await self._wait(line, wanted)
            self._check_open()
            pcm = line.advance(self._hardware.now())
            self._notices.watch(line.watch)
            self._tell_moves()
            if pcm.size:
                self._heard.append(np.zeros_like(pcm) if self.muted else pcm)
            if self._is_complete(wanted):
                heard, self._heard, self._expected = np.concatenate(self._heard), [], 0
                return heard
        raise anyio.EndOfStream

    def expect(self, samples: int) -> None:
        """Say that so many samples make a frame full: the next :meth:`receive` waits for them.

        This saves waking up in between, and the frame is full right when a device's block has come: before what is
        heard first there is silence for that, while which the devices have begun.
        """
        self._expected = samples

    async def send(self, pcm: Float32) -> None:
        """Play a frame of the agent's audio, float32 ``[frame_size]``; waits while 0.4 seconds wait to be played.

        :raises ClosedError: after :meth:`finish` or :meth:`aclose`
        """
        line = self._started()
        if self._finished:
            raise ClosedError("the agent's audio has been finished; start another conversation")
        while line.jitter is None or line.jitter.full:
            await anyio.sleep(_POLL_SECONDS)
            self._check_open()
        line.jitter.push(pcm)

    def end(self) -> None:
        """Say that the user's audio is over: the conversation comes to its end. Call it in the event loop."""
        self._ended = True
        self._wake()

    async def finish(self) -> None:
        """Wait until all of the agent's audio has been heard."""
        line = self._started()
        self._finished = True
        if line.jitter is not None:
            line.jitter.flush()
        # A device gives no event when it has played: it is asked.
        while not self._closed and self._hardware.is_alive() and self._hardware.plays():  # noqa: ASYNC110
            await anyio.sleep(_POLL_SECONDS)

    async def aclose(self) -> None:
        """Release the devices. Calling it twice is harmless."""
        self._closed = True
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._hardware.close)
        if self._line is not None:
            self._line.disconnect()
        self._wake()

    def _wake(self) -> None:
        """Have :meth:`receive` look."""
        if self._came is not None:
            self._came.notify()

    async def _wait(self, line: Line, wanted: int) -> None:
        """Wait until the microphone has given what is missing of so many samples: its thread wakes this task, once.

        Where that does not come, it is looked again all the same: the device may be gone.
        """
        assert self._came is not None  # noqa: S101 -- start has made it
        # Of what is heard first, whatever there is.
        missing = wanted - sum(pcm.size for pcm in self._heard) if self._has_heard else 1
        if not line.wake(missing, self._came.notify):
            await anyio.sleep(_SOON_SECONDS)
            return
        with anyio.move_on_after(missing / line.rate + _POLL_SECONDS):
            await self._came.wait()

    def _is_complete(self, wanted: int) -> bool:
        """Whether as much was heard as :meth:`receive` waits for; what is heard first is made as much, if expected."""
        missing = wanted - sum(pcm.size for pcm in self._heard)
        if self._heard and not self._has_heard:
            self._has_heard = True
            if self._expected and missing > 0:
                self._heard.insert(0, np.zeros(missing, np.float32))
                return True
        return missing <= 0

    async def _reopen(self, line: Line) -> None:
        """Open what there is in place of devices that are gone.

        :raises AudioDeviceError: if there is none for ten seconds
        """
        if not self._lost:  # a receive that was cancelled meanwhile has told it
            self._lost = True
            self._notices.tell(f"{self._hardware.gone} is gone; looking for another")
            line.disconnect()
        give_up = anyio.current_time() + _LEFT_SECONDS
        while True:
            try:
                await anyio.to_thread.run_sync(self._hardware.reopen, line)
                break
            except AudioDeviceError as error:
                if anyio.current_time() > give_up:
                    raise AudioDeviceError(f"no audio device is left: {error}") from None
            await anyio.sleep(RETRY_SECONDS)
        self._lost = False
        self._tell_moves(again=True)

    def _tell_moves(self, *, again: bool = False) -> None:
        """Tell where the streams are if that has changed, or ``again``: the system may move them by itself."""
        names = self._hardware.names
        if again or names != self._names:
            if again or self._names is not None:
                gone = "" if again or not self._hardware.moved_from else f"{self._hardware.moved_from} is gone; "
                self._notices.tell(f"{gone}now on {names[0]} and {names[1]}")
            self._names = names

    def _canceller(self, rate: int) -> EchoCanceller | None:
        if not self._processes:
            return None
        try:
            return self._processing(rate, echo_cancellation=self._cancels_echo)
        except ImportError:
            self._notices.tell("no echo cancellation: use headphones (it needs pywebrtc-audio, of the extra talk)")
            return None

    def _started(self) -> Line:
        self._check_open()
        if self._line is None:
            raise UsageError("the transport has not been started; await start(sample_rate) first")
        return self._line

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the transport has been closed; make another")
