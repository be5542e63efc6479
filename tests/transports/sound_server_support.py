"""A PulseAudio of the test's own: a loudspeaker, and a microphone that hears what is played into its room."""

import contextlib
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np

RATE = 48000
NICENESS = -10
MODULES = """
load-module module-native-protocol-unix auth-anonymous=1 socket={socket}
set-default-sink loudspeaker
set-default-source microphone
"""
# With echo, one sink has both, so that the echo is exact to the sample on any machine: its left channel is what
# the microphone hears. The loudspeaker plays on both; the left one's volume is the echo's.
ECHO = """
load-module module-null-sink sink_name=world norewinds=1 rate={rate} channels=2 channel_map=front-left,front-right
load-module module-remap-sink sink_name=room master=world channels=1 channel_map=mono \
master_channel_map=front-left remix=no sink_properties=device.description=Room
load-module module-remap-sink sink_name=loudspeaker master=world channels=2 channel_map=front-left,front-right \
master_channel_map=front-left,front-right remix=no sink_properties=device.description=Loudspeaker
load-module module-remap-source source_name=microphone master=world.monitor channels=1 channel_map=mono \
master_channel_map=front-left remix=no source_properties=device.description=Microphone
"""
PLAIN = """
load-module module-null-sink sink_name=loudspeaker norewinds=1 rate={rate} channels={channels} \
sink_properties=device.description=Loudspeaker
load-module module-null-sink sink_name=room norewinds=1 rate={rate} channels={inputs} \
sink_properties=device.description=Room
load-module module-remap-source source_name=microphone master=room.monitor \
source_properties=device.description=Microphone
"""


def missing():
    """Return what a test with a sound server needs and this machine lacks, or an empty string."""
    commands = [name for name in ("pulseaudio", "pactl", "pacat", "parec") if shutil.which(name) is None]
    return f"{', '.join(commands)} (Debian: pulseaudio, pulseaudio-utils)" if commands else ""


@contextlib.contextmanager
def preferred():
    """Prefer this thread, and those that it starts, to other programs, as far as the system permits.

    The server prefers itself, too. Without it, what a busy machine keeps from playing in time would be told as echo.
    On Linux a nice value counts among the processes of one session only; the session has one of its own.
    """
    before, session = os.getpriority(os.PRIO_PROCESS, 0), Path("/proc/self/autogroup")
    # A kernel may have the file and no session to tell of: then it is empty.
    session_before = (session.read_text().split() or [""])[-1] if session.exists() else ""
    try:
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, min(before, NICENESS))
        write_niceness(session, session_before and str(min(int(session_before), NICENESS)))
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, before)
        write_niceness(session, session_before)


def write_niceness(session, value):
    with contextlib.suppress(OSError):  # the system may refuse it, or want some time between two changes
        if value:
            session.write_text(value)


class SoundServer:
    """Runs in a folder; tells programs of this process and its children about itself."""

    def __init__(self, folder, *, echo=False, echo_db=0.0, rate=RATE, channels=2, inputs=1):
        self.folder = folder
        self.echo_db = echo_db if echo else 0.0
        self.socket = folder / "native"
        self.environment = {"HOME": str(folder), "XDG_RUNTIME_DIR": str(folder), "PULSE_SERVER": f"unix:{self.socket}"}
        devices = (ECHO if echo else PLAIN).format(rate=rate, channels=channels, inputs=inputs)
        script = devices + MODULES.format(socket=self.socket)
        (folder / "modules.pa").write_text(script)
        self.process = None

    def start(self):
        self.socket.unlink(missing_ok=True)
        options = ["-n", "--daemonize=no", "--exit-idle-time=-1", "--disallow-exit", "--use-pid-file=no"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [shutil.which("pulseaudio"), *options, "-F", str(self.folder / "modules.pa")],
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=log,
            )
        until = time.monotonic() + 20
        while b"microphone" not in self.run("pactl", "list", "short", "sources"):
            assert time.monotonic() < until, (self.folder / "log").read_text()
            time.sleep(0.05)
        if self.echo_db:
            owner = self.module("sink_name=loudspeaker")
            streams = json.loads(self.run("pactl", "--format=json", "list", "sink-inputs"))
            (stream,) = [each["index"] for each in streams if str(each["owner_module"]) == owner]
            volume = round(65536 * 10 ** (self.echo_db / 60))  # the server's scale is cubic
            self.run("pactl", "set-sink-input-volume", str(stream), str(volume), "65536")

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def run(self, *command):
        return subprocess.run(command, env={**os.environ, **self.environment}, capture_output=True, check=False).stdout

    def plug_in(self, name="webcam"):
        """Add a microphone, and a room of its own by the name ``room-of-…``."""
        sink = ["module-null-sink", f"sink_name=room-of-{name}", "norewinds=1", f"rate={RATE}", "channels=1"]
        self.run("pactl", "load-module", *sink)
        source = ["module-remap-source", f"source_name={name}", f"master=room-of-{name}.monitor"]
        self.run("pactl", "load-module", *source, f"source_properties=device.description={name.capitalize()}")

    def recorded_by(self, process):
        """Return the number of the stream by which a process records."""
        streams = json.loads(self.run("pactl", "--format=json", "list", "source-outputs"))
        (number,) = [
            each["index"] for each in streams if each["properties"].get("application.process.id") == str(process)
        ]
        return str(number)

    def unplug(self, argument):
        """Take away the device that was loaded with an argument."""
        self.run("pactl", "unload-module", self.module(argument))

    def module(self, argument):
        """Return the number of the module that was loaded with an argument."""
        listed = self.run("pactl", "list", "short", "modules").decode().splitlines()
        return next(line.split()[0] for line in listed if argument in line)

    @contextlib.contextmanager
    def speaking(self, pcm, device="room"):
        """Play float32 ``[samples]`` at 48 kHz into the room, or another sink, during a block."""
        path = self.folder / f"speech-{device}.raw"
        path.write_bytes(np.asarray(pcm, "<f4").tobytes())
        command = ["pacat", "--playback", "--raw", f"--device={device}", *FORMAT, str(path)]
        player = subprocess.Popen(command, env={**os.environ, **self.environment}, stderr=subprocess.DEVNULL)
        try:
            yield
        finally:
            player.kill()
            player.wait()

    @contextlib.contextmanager
    def recording(self, device="loudspeaker.monitor"):
        """Record what the loudspeaker, or another device, plays; the list has it after the block."""
        heard = []
        path = self.folder / "heard.raw"
        with path.open("wb") as file:
            command = ["parec", "--raw", f"--device={device}", *FORMAT]
            recorder = subprocess.Popen(
                command, env={**os.environ, **self.environment}, stdout=file, stderr=subprocess.DEVNULL
            )
            try:
                yield heard
            finally:
                recorder.terminate()
                recorder.wait()
        data = path.read_bytes()
        heard.append(np.frombuffer(data[: len(data) // 4 * 4], "<f4"))


FORMAT = ["--format=float32le", "--channels=1", "--rate=48000", "--latency-msec=20"]


def share_at(pcm, rate, frequency):
    """Return which share of the power is within 10 Hz of a frequency, in the median quarter of a second.

    A server that a busy machine keeps from running loses some samples. Where the tone goes on at another phase, a
    whole second's spectrum may have little of it left; of its quarters, one is spoilt.
    """
    spectra = np.abs(np.fft.rfft(quarters(pcm, rate) * np.hanning(rate // 4))) ** 2
    near = np.abs(np.fft.rfftfreq(rate // 4, 1 / rate) - frequency) < 10
    return np.median(spectra[:, near].sum(1) / np.maximum(spectra.sum(1), 1e-20))


def quarters(pcm, rate):
    """Return the quarters of a second of float32 ``[samples]`` as ``[quarters, rate // 4]``, without the rest."""
    return pcm[: pcm.size // (rate // 4) * (rate // 4)].reshape(-1, rate // 4)


def loudest_second(pcm):
    """Return the loudest second of float32 ``[samples]`` of the sound server."""
    power = np.concatenate([[0.0], np.cumsum(np.square(pcm, dtype=np.float64))])
    loudest = int(np.argmax(power[RATE:] - power[:-RATE]))
    return pcm[loudest : loudest + RATE]
