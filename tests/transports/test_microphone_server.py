"""The microphone's transport on a sound server: PulseAudio, which the tests start themselves."""

import os

import anyio
import numpy as np
import pytest
from room_support import stutters
from sound_server_support import RATE, SoundServer, loudest_second, missing, preferred, share_at

from duplex import AudioDeviceError, MicrophoneTransport
from duplex.transports import list_devices
from duplex.transports.microphone.portaudio import DEAD_SECONDS
from duplex.transports.microphone.transport import RETRY_SECONDS

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.alone,
    pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}"),
    pytest.mark.parametrize("anyio_backend", ["asyncio"]),
]
MODEL_RATE = 24000
FRAME = 1920
SILENCE = 2**-16
"""Half a step of 16 bits: a canceller that works leaves whole seconds without a sample that is not 0."""


@pytest.fixture
def server(tmp_path, monkeypatch, request):
    server = SoundServer(tmp_path, **getattr(request, "param", {}))
    for name, value in server.environment.items():
        if name != "HOME":
            monkeypatch.setenv(name, value)
    server.start()
    with preferred():
        yield server
    server.kill()


async def receive_for(transport, seconds):
    pieces, until = [], anyio.current_time() + seconds
    while anyio.current_time() < until:
        pieces.append(await transport.receive())
    return np.concatenate(pieces)


async def undisturbed(transport, count):
    """Return five seconds, ``count`` times, in which nothing stuttered, nor in the five before them, to settle.

    A transport that loses its place by itself, and not on a busy machine only, never gets so far.
    """
    clean, settled, before, counts = [], False, stutters(transport), []
    for _ in range(36):
        pcm, now = await receive_for(transport, 5.0), stutters(transport)
        if settled and now == before:
            clean.append(pcm)
        settled = now == before
        counts.append(now - before)
        before = now
        if len(clean) == count:
            return clean
    pytest.fail(f"the machine, or the transport, is too slow: stutters in each five seconds: {counts}")


async def say(transport, sound, seconds):
    """Send frames at the pace of a model; ``sound(sample numbers)`` is what is said."""
    began = anyio.current_time()
    for frame in range(round(seconds * MODEL_RATE / FRAME)):
        await anyio.sleep(max(0.0, began + frame * FRAME / MODEL_RATE - anyio.current_time()))
        await transport.send(sound(np.arange(frame * FRAME, (frame + 1) * FRAME)).astype(np.float32))


def tone(frequency, rate, level=0.2):
    return lambda samples: level * np.sin(2 * np.pi * frequency * samples / rate)


@pytest.mark.usefixtures("server")
async def test_the_servers_own_names_and_rates():
    found = {device.name: device for device in list_devices()}
    assert found["Microphone"].is_default_input
    assert found["Microphone"].sample_rate == RATE
    assert found["Loudspeaker"].is_default_output
    assert found["Loudspeaker"].outputs == 2
    assert "pulse" not in found
    assert "PULSE_SOURCE" not in os.environ


async def test_what_is_spoken_arrives_and_what_is_sent_is_heard(server):
    plain = {"echo_cancellation": "off", "noise_suppression": False, "gain_control": False}
    transport = MicrophoneTransport("Microphone", "loudspeaker", **plain)
    await transport.start(MODEL_RATE)
    try:
        with server.speaking(tone(700, RATE)(np.arange(6 * RATE))), server.recording() as played:
            await receive_for(transport, 1.5)
            heard = []
            async with anyio.create_task_group() as both:
                both.start_soon(say, transport, tone(440, MODEL_RATE), 2.0)
                heard.append(await receive_for(transport, 2.0))
            await transport.finish()
        stats = transport.stats
    finally:
        await transport.aclose()
    assert abs(heard[0].size - 2.0 * MODEL_RATE) < 0.5 * MODEL_RATE, stats
    assert share_at(heard[0][:MODEL_RATE], MODEL_RATE, 700) > 0.9
    sound = played[0][np.abs(played[0]) > 0.01]
    assert sound.size > 1.5 * RATE
    assert share_at(loudest_second(played[0]), RATE, 440) > 0.9
    assert (stats.input_device, stats.output_device) == ("Microphone", "Loudspeaker")


@pytest.mark.parametrize(
    "server",
    [{"rate": rate, "channels": count, "inputs": count} for rate in (8000, 44100, 48000) for count in (1, 2)],
    indirect=True,
)
async def test_devices_of_every_rate_and_channel_count(server, request):
    wanted = request.node.callspec.params["server"]
    transport = MicrophoneTransport(echo_cancellation="off", noise_suppression=False, gain_control=False)
    await transport.start(MODEL_RATE)
    try:
        with server.speaking(tone(700, RATE)(np.arange(6 * RATE))), server.recording() as played:
            await receive_for(transport, 1.0)
            heard = []
            async with anyio.create_task_group() as both:
                both.start_soon(say, transport, tone(440, MODEL_RATE), 2.0)
                heard.append(await receive_for(transport, 2.0))
            await transport.finish()
        stats = transport.stats
    finally:
        await transport.aclose()
    assert (stats.input_rate, stats.output_rate) == (wanted["rate"], wanted["rate"])
    assert share_at(heard[0][-MODEL_RATE:], MODEL_RATE, 700) > 0.9, stats
    assert share_at(loudest_second(played[0]), RATE, 440) > 0.9, stats


async def test_a_loudspeaker_that_goes_is_replaced_by_the_new_default(server):
    """By the server, which moves streams, or by the transport; of four seconds at most two are lost."""
    server.run("pactl", "load-module", "module-null-sink", "sink_name=headset", "norewinds=1")
    transport = MicrophoneTransport()
    await transport.start(MODEL_RATE)
    try:
        async with anyio.create_task_group() as both:
            both.start_soon(receive_for, transport, 6.0)
            await anyio.sleep(1.0)
            server.run("pactl", "set-default-sink", "headset")
            server.run("pactl", "unload-module", server.module("sink_name=loudspeaker"))
            with server.recording("headset.monitor") as played:
                await say(transport, tone(440, MODEL_RATE), 4.0)
                await transport.finish()
    finally:
        await transport.aclose()
    assert np.count_nonzero(np.abs(played[0]) > 0.01) > 1.8 * RATE
    assert share_at(loudest_second(played[0]), RATE, 440) > 0.9
    assert DEAD_SECONDS + RETRY_SECONDS < 2


@pytest.mark.parametrize("server", [{"echo": True}], indirect=True)
@pytest.mark.parametrize(("how", "least", "most"), [("webrtc", 20.0, 200.0), ("off", -3.0, 3.0)])
@pytest.mark.usefixtures("server")
async def test_the_loudspeakers_echo_at_0_db_is_cancelled(how, least, most):
    """In each five seconds in which nothing stuttered, whatever the server says about the times of its blocks."""
    noise = np.random.default_rng(0).normal(0, 0.1, 40 * MODEL_RATE)
    syllables = noise * (np.sin(2 * np.pi * 2 * np.arange(noise.size) / MODEL_RATE) > 0)
    transport = MicrophoneTransport(echo_cancellation=how, noise_suppression=False, gain_control=False)
    await transport.start(MODEL_RATE)
    try:
        async with anyio.create_task_group() as both:
            both.start_soon(say, transport, lambda samples: syllables[samples % syllables.size], 600.0)
            heard = await undisturbed(transport, 5)
            both.cancel_scope.cancel()
        stats = transport.stats
    finally:
        await transport.aclose()
    sent = np.sqrt(np.mean(syllables**2))
    left = [20 * np.log10(sent / max(np.sqrt(np.mean(each**2)), SILENCE)) for each in heard]
    assert least < min(left), (left, stats)
    assert max(left) < most
    assert (stats.echo_reduction is None) == (how == "off")


async def test_a_server_that_is_killed_and_comes_back(server):
    notices = []
    transport = MicrophoneTransport(on_notice=notices.append, noise_suppression=False, gain_control=False)
    await transport.start(MODEL_RATE)
    try:
        await receive_for(transport, 0.5)
        server.kill()
        with anyio.move_on_after(1.0):
            await receive_for(transport, 5.0)
        server.start()
        with server.speaking(tone(700, RATE)(np.arange(10 * RATE))):
            with anyio.fail_after(8.0):
                await transport.receive()
            await receive_for(transport, 2.0)
            heard = await receive_for(transport, 1.0)
    finally:
        await transport.aclose()
    assert share_at(heard, MODEL_RATE, 700) > 0.9
    assert "is gone" in notices[0]
    assert notices[1] == "now on Microphone and Loudspeaker"


async def test_no_server(server):
    server.kill()
    transport = MicrophoneTransport()
    with pytest.raises(AudioDeviceError, match="there is no microphone here"):
        await transport.start(MODEL_RATE)
    await transport.aclose()
