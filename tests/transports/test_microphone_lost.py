"""Devices of a sound server that go, come and are moved, while a conversation is on."""

import os
import threading

import anyio
import numpy as np
import pytest
from sound_server_support import RATE, SoundServer, missing, share_at

import duplex
from duplex import AudioDeviceError, MicrophoneTransport
from duplex.testing import fake_model
from duplex.transports import list_devices
from duplex.transports.microphone import transport as module
from duplex.transports.microphone.listing import listed_anew
from duplex.transports.microphone.moves import Moves
from duplex.transports.microphone.portaudio import PortAudio

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}"),
    pytest.mark.parametrize("anyio_backend", ["asyncio"]),
]
MODEL_RATE = 24000
PLAIN = {"echo_cancellation": "off", "noise_suppression": False, "gain_control": False}
PATIENCE = 30.0
"""Seconds after which a machine, however busy, has failed."""


@pytest.fixture
def server(tmp_path, monkeypatch):
    server = SoundServer(tmp_path)
    for name, value in server.environment.items():
        if name != "HOME":
            monkeypatch.setenv(name, value)
    server.start()
    yield server
    server.kill()


def tone(frequency, seconds=60):
    return 0.2 * np.sin(2 * np.pi * frequency * np.arange(seconds * RATE) / RATE)


async def receive_until_heard(transport, frequency):
    """Receive until half a second is of one tone; return all that was received."""
    heard = np.zeros(0, np.float32)
    with anyio.fail_after(PATIENCE):
        while heard.size < MODEL_RATE // 2 or share_at(heard[-MODEL_RATE // 2 :], MODEL_RATE, frequency) < 0.95:
            heard = np.concatenate([heard, await transport.receive()])
    return heard


async def receive_until(transport, is_so):
    with anyio.fail_after(PATIENCE):
        while not is_so():
            await transport.receive()


async def test_a_microphone_that_goes_is_replaced_by_the_new_default_and_both_are_told(server):
    notices = []
    transport = MicrophoneTransport(on_notice=notices.append, **PLAIN)
    server.plug_in("webcam")
    await transport.start(MODEL_RATE)
    try:
        with server.speaking(tone(700)), server.speaking(tone(440), "room-of-webcam"):
            await receive_until_heard(transport, 700)
            server.unplug("source_name=microphone")
            await receive_until_heard(transport, 440)
            stats = transport.stats
    finally:
        await transport.aclose()
    told = " / ".join(notices)
    assert told.startswith("Microphone is gone; ")
    assert told.endswith("now on Webcam and Loudspeaker")
    assert (stats.input_device, stats.output_device) == ("Webcam", "Loudspeaker")


async def test_what_a_loudspeaker_plays_is_no_microphone_and_one_that_comes_is_taken(server):
    """The server moves the stream to the loudspeaker's monitor: the agent would hear nobody but itself."""
    notices, told = [], anyio.Event()
    transport = MicrophoneTransport(on_notice=lambda line: (notices.append(line), told.set()), **PLAIN)
    await transport.start(MODEL_RATE)

    async def unplug_and_plug_in():
        server.unplug("source_name=microphone")
        with anyio.fail_after(PATIENCE):
            await told.wait()
        server.plug_in("webcam")

    try:
        async with anyio.create_task_group() as both:
            both.start_soon(unplug_and_plug_in)
            await receive_until(transport, lambda: len(notices) > 1)
        with server.speaking(tone(440), "room-of-webcam"):
            await receive_until_heard(transport, 440)
    finally:
        await transport.aclose()
    assert notices == ["Microphone is gone; looking for another", "now on Webcam and Loudspeaker"]


async def test_when_no_microphone_is_left_the_conversation_ends_with_an_error(server, monkeypatch):
    """Silence stands in until then: the agent goes on."""
    monkeypatch.setattr(module, "_LEFT_SECONDS", 1.0)
    notices, spoken = [], []
    transport = MicrophoneTransport(on_notice=lambda line: (notices.append(line), spoken.append(0.0)))

    async def converse(model):
        async with duplex.Conversation(model, transport) as conversation:
            gone = False
            async for event in conversation:
                if isinstance(event, duplex.AgentAudio) and event.at > 0.5 and not gone:
                    server.unplug("source_name=microphone")
                    gone = True
                elif isinstance(event, duplex.AgentAudio) and spoken:
                    spoken.append(event.at)

    with fake_model() as model, pytest.raises(AudioDeviceError, match=r"no audio device is left.*no microphone"):
        await converse(model)
    assert notices == ["Microphone is gone; looking for another"]
    assert len(spoken) > 5
    assert not [name for name in ("PULSE_SOURCE", "PULSE_SINK") if name in os.environ]


async def test_a_monitor_is_an_input_for_those_who_name_it(server):
    transport = MicrophoneTransport("loudspeaker.monitor", **PLAIN)
    await transport.start(MODEL_RATE)
    try:
        with server.speaking(tone(440), "loudspeaker"):
            await receive_until_heard(transport, 440)
    finally:
        await transport.aclose()
    (device,) = [device for device in list_devices() if device.server_name == "loudspeaker.monitor"]
    assert device.is_monitor


@pytest.mark.parametrize(("target", "name"), [("webcam", "Webcam"), ("loudspeaker.monitor", "Monitor of Loudspeaker")])
async def test_a_stream_that_somebody_moves_is_told_and_goes_on(server, target, name):
    """Also to a monitor: the microphone is there, so it is meant."""
    notices = []
    transport = MicrophoneTransport(on_notice=notices.append, **PLAIN)
    server.plug_in("webcam")
    await transport.start(MODEL_RATE)
    try:
        await transport.receive()
        server.run("pactl", "move-source-output", server.recorded_by(os.getpid()), target)
        await receive_until(transport, lambda: notices)
        stats = transport.stats
    finally:
        await transport.aclose()
    assert notices == [f"now on {name} and Loudspeaker"]
    assert stats.input_device == name


async def test_moves_end_with_their_listener(server):
    system, told, heard = PortAudio(), [], threading.Event()
    moves = Moves(lambda *move: (told.append(move), heard.set()))
    moves.start()
    microphone = next(device for device in system.devices() if device.server_name == "microphone")
    _, line = system.open_capture(microphone)
    try:
        server.plug_in("webcam")
        stream = server.recorded_by(os.getpid())
        while not heard.is_set():  # the listener may not have begun
            server.run("pactl", "move-source-output", stream, "webcam")
            await anyio.to_thread.run_sync(heard.wait, 1.0)
            server.run("pactl", "move-source-output", stream, "microphone")
    finally:
        line.close()
        moves.close()
        moves.close()
    direction, number, found = told[0]
    assert direction == "input"
    assert found[number].name in {"Webcam", "Microphone"}
    assert {device.server_name for device in found.values()} >= {"webcam", "microphone"}


def numbered(devices):
    return {device.name for device in devices if not device.server_name}


async def test_the_list_is_fresh_while_streams_are_open(server, tmp_path, monkeypatch):
    """PortAudio lists devices when it starts; a child process finds those that have come since."""
    transport = MicrophoneTransport(**PLAIN)
    await transport.start(MODEL_RATE)
    try:
        before = list_devices()
        assert "trumpet" not in numbered(before)
        configuration = "pcm.trumpet { type null hint { show on description trumpet } }\n"
        (tmp_path / "asound.conf").write_text(f"</usr/share/alsa/alsa.conf>\n{configuration}")
        monkeypatch.setenv("ALSA_CONFIG_PATH", str(tmp_path / "asound.conf"))
        server.plug_in("webcam")
        after = list_devices()
        assert "trumpet" in numbered(after)
        assert numbered(after) >= numbered(before)
        assert "Webcam" in {device.name for device in after}
        with server.speaking(tone(700)):
            await receive_until_heard(transport, 700)  # the stream has not noticed
    finally:
        await transport.aclose()


@pytest.mark.usefixtures("server")
async def test_a_list_that_cannot_be_made_anew_is_the_old_one(tmp_path, monkeypatch):
    transport = MicrophoneTransport(**PLAIN)
    await transport.start(MODEL_RATE)
    try:
        before = list_devices()
        (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')\n")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        assert listed_anew() is None
        assert numbered(list_devices()) == numbered(before)
        monkeypatch.setattr("sys.executable", "")
        assert listed_anew() is None
    finally:
        await transport.aclose()
