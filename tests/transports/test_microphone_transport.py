"""The microphone's transport on a fake sound system: the protocol, devices that come and go, and what is told."""

import time

import anyio
import attrs
import numpy as np
import pytest
from microphone_support import RATE, FakeSound, Spoken, devices, silence, tone

import duplex
from duplex import AudioDeviceError, ClosedError, MicrophoneTransport, UsageError
from duplex.testing import check_transport, fake_model
from duplex.transports.microphone import transport as module
from duplex.transports.microphone.devices import choose_device

pytestmark = pytest.mark.anyio


def running(**options):
    return FakeSound(clock=time.monotonic, **options)


async def test_it_conforms():
    await check_transport(Spoken)


async def receive_for(transport, seconds):
    pieces, until = [], anyio.current_time() + seconds
    while anyio.current_time() < until:
        pieces.append(await transport.receive())
    return np.concatenate(pieces)


async def test_what_is_heard_and_played():
    system = running(sound=tone())
    transport = MicrophoneTransport(system=system, echo_cancellation="off", noise_suppression=False, gain_control=False)
    await transport.start(RATE)
    try:
        heard = await receive_for(transport, 1.0)
        assert np.abs(heard[-1000:]).max() == pytest.approx(0.3, rel=0.02)
        stats = transport.stats
        assert (stats.input_device, stats.output_device) == ("built-in microphone", "built-in loudspeaker")
        assert stats.input_level == pytest.approx(-13.5, abs=1)
        assert stats.echo_reduction is None
        transport.muted = True
        assert not (await receive_for(transport, 0.1)).any()
        await transport.send(np.full(1920, 0.5, np.float32))
        await transport.finish()
        played = system.played()
        assert np.median(played[played > 0.1]) == pytest.approx(0.5, rel=0.01)
    finally:
        await transport.aclose()
    assert transport.stats.input_device == ""
    with pytest.raises(ClosedError):
        await transport.receive()


async def test_a_device_that_goes_is_replaced_while_the_conversation_goes_on():
    """The fake model hears frames throughout: silence stands in, and then the new device is heard."""
    notices, system = [], running(sound=tone())
    transport = MicrophoneTransport(system=system, on_notice=notices.append, echo_cancellation="off")
    changed = None
    with fake_model() as model:
        async with duplex.Conversation(model, transport) as conversation:
            async for event in conversation:
                if isinstance(event, duplex.AgentAudio) and event.at > 0.5 and changed is None:
                    system.present = devices(16000.0, name="headset")
                    changed = event.at
                if changed is not None and event.at > changed + 1.5:
                    break
            assert transport.stats.input_device == "headset microphone"
            assert transport.stats.input_rate == 16000.0
    assert notices[0] == "built-in loudspeaker is gone; looking for another"
    assert notices[1] == "now on headset microphone and headset loudspeaker"


async def test_a_named_device_that_comes_back_under_another_number_is_taken_again():
    system = running(present=[*devices(name="built-in"), *renumbered(devices(name="headset"), 2)])
    transport = MicrophoneTransport("headset", "headset", system=system)
    await transport.start(RATE)
    assert transport.stats.input_device == "headset microphone"
    system.present = [*renumbered(devices(name="headset"), 0), *renumbered(devices(name="built-in"), 2)]
    await transport.receive()
    assert transport.stats.input_device == "headset microphone"
    await transport.aclose()


def renumbered(found, first):
    return [duplex.AudioDevice(**{**as_dict(each), "index": first + number}) for number, each in enumerate(found)]


def as_dict(device):
    return attrs.asdict(device)


async def test_when_no_device_is_left_the_conversation_ends(monkeypatch):
    monkeypatch.setattr(module, "_LEFT_SECONDS", 0.3)
    notices, system = [], running(sound=tone())
    transport = MicrophoneTransport(system=system, on_notice=notices.append)

    async def converse(model):
        async with duplex.Conversation(model, transport) as conversation:
            async for event in conversation:
                if isinstance(event, duplex.AgentAudio):
                    system.present = []

    with fake_model() as model, pytest.raises(AudioDeviceError, match="no audio device is left"):
        await converse(model)
    assert len(notices) == 1
    assert all(line.closed for line in system.lines)


async def test_an_agent_that_goes_on_while_there_is_no_device_is_told_as_lag():
    system = running(sound=silence)
    transport = MicrophoneTransport(system=system, on_notice=lambda _: None)
    with fake_model() as model:
        async with duplex.Conversation(model, transport) as conversation:
            async for event in conversation:
                if isinstance(event, duplex.AgentAudio) and event.at > 0.2:
                    system.failure = "gone"
                    system.present = []
                if isinstance(event, duplex.Lag) and event.side == "agent":
                    break
    assert event.dropped > 0


async def test_a_silent_microphone_is_told_once():
    notices, system = [], FakeSound(clock=lambda: 10 * time.monotonic())
    transport = MicrophoneTransport(system=system, on_notice=notices.append)
    await transport.start(RATE)
    await receive_for(transport, 0.5)
    await transport.aclose()
    assert [notice for notice in notices if "silence" in notice] == notices
    assert len(notices) == 1


async def test_wrong_use():
    with pytest.raises(UsageError, match="webrtc"):
        MicrophoneTransport(system=FakeSound(), echo_cancellation="speex")
    transport = MicrophoneTransport(system=FakeSound())
    with pytest.raises(UsageError, match="not been started"):
        await transport.receive()
    with pytest.raises(UsageError, match="multiple of 100"):
        await transport.start(11025 + 1)
    await transport.start(RATE)
    with pytest.raises(UsageError, match="already"):
        await transport.start(RATE)
    await transport.finish()
    with pytest.raises(ClosedError):
        await transport.send(np.zeros(1920, np.float32))
    await transport.aclose()
    with pytest.raises(ClosedError):
        await transport.start(RATE)


@pytest.mark.parametrize("wanted", [7, "webcam"])
def test_a_device_that_is_not_there(wanted):
    with pytest.raises(AudioDeviceError, match=r"0 \(built-in microphone\)"):
        choose_device(devices(), wanted, "input")


def test_how_a_device_is_chosen():
    found = devices()
    assert choose_device(found, None, "output") is found[1]
    assert choose_device(found, 0, "input") is found[0]
    assert choose_device(found, "MICRO", "input") is found[0]
    with pytest.raises(AudioDeviceError, match="no loudspeaker"):
        choose_device(found[:1], None, "output")


async def test_without_a_canceller_headphones_are_asked_for(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pywebrtc_audio", None)
    notices = []
    transport = MicrophoneTransport(system=FakeSound(), on_notice=notices.append)
    await transport.start(RATE)
    await transport.aclose()
    assert "headphones" in notices[0]
