"""The programs of examples/cookbook that callers reach: each served, and called as its callers would."""

import base64
import contextlib
import functools
import hmac
import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import Request, urlopen
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import uvicorn
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

import duplex
from duplex.audio.decoding import Decoder
from duplex.audio.wire_codecs import AudioFormat, create_wire_codec
from server_support import FRAME, RATE, running, until

EXAMPLES = Path(__file__).parents[2] / "examples"
ANSWER = "The capital of France is Paris."


def program(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / "cookbook" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def served(app):
    """Run an application in uvicorn; yield its host and port."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, ws="websockets-sansio", log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while thread.is_alive() and not server.started:  # a model is loaded meanwhile
            time.sleep(0.01)
        yield f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def question():
    """Return float32 ``[frames, 1920]``."""
    decoder, pieces = Decoder(EXAMPLES / "question.wav", RATE, "mix"), []
    while (piece := decoder.read()) is not None:
        pieces.append(piece)
    decoder.close()
    pcm = np.concatenate(pieces)
    return np.pad(pcm, (0, -len(pcm) % FRAME)).reshape(-1, FRAME)


def test_a_voice_agent_in_fastapi():
    pytest.importorskip("fastapi")
    agent = program("fastapi_agent")
    with served(agent.app) as host:
        with connect(f"ws://{host}/voice", compression=None, max_queue=None) as caller:
            for frame in question():
                caller.send((frame * 32767).astype("<i2").tobytes())
            caller.send(b"")
            messages = list(caller)
        voice = b"".join(message for message in messages if isinstance(message, bytes))
        events = [json.loads(message) for message in messages if isinstance(message, str)]
        assert len(voice) == 2 * FRAME * len(question())
        assert np.abs(np.frombuffer(voice, "<i2")).max() > 3000
        assert "".join(each["text"] for each in events if each["type"] == "AgentText").strip() == ANSWER
        assert events[-1]["type"] == "SessionEnded"
        with urlopen(f"http://{host}/said") as answer:
            assert json.load(answer) == [ANSWER]
        with urlopen(f"http://{host}/talk/") as answer:
            assert b"<html" in answer.read()
        with connect(f"ws://{host}/voice", compression=None) as caller:
            caller.send(bytes(2 * FRAME))  # and hangs up
        until(lambda: agent.app.state.model.free == 4)


def test_a_telephone_line(monkeypatch, tmp_path):
    """The webhook's TwiML says where the call goes; the call goes there, if Twilio has signed it."""
    monkeypatch.setenv("TELEPHONE_HOST", "127.0.0.1:0")
    monkeypatch.setenv("DUPLEX_TWILIO_AUTH_TOKEN", "secret")
    monkeypatch.setenv("TELEPHONE_RECORDINGS", str(tmp_path / "calls"))
    line = program("telephone_line")
    with served(line.app) as host:
        line.HOST = host
        asked = Request(f"http://{host}/answer", data=urlencode({"From": "+15550100", "CallSid": "CA1"}).encode())
        with urlopen(asked) as answer:  # noqa: S310 -- ours
            assert answer.headers["Content-Type"].startswith("text/xml")
            stream = ET.fromstring(answer.read()).find("Connect/Stream")  # noqa: S314 -- our own TwiML
        given = {each.attrib["name"]: each.attrib["value"] for each in stream}
        url = stream.attrib["url"]
        for stranger in (url, url.replace("/twilio", "/api/chat")):
            with pytest.raises(InvalidStatus):
                connect(stranger).__enter__()
        signature = hmac.digest(b"secret", url.replace("ws://", "wss://").encode(), "sha1")
        heard = call(url, given, {"X-Twilio-Signature": base64.b64encode(signature).decode()})
        assert np.abs(heard).max() > 0.05, "the agent is heard, on a line of 8 kHz"
        until(lambda: line.MODEL.free == 4)
    (recording,) = (tmp_path / "calls").iterdir()
    assert json.loads((recording / "call.json").read_text())["owner"] == "twilio"


def call(url, parameters, headers):
    """Ask by telephone; return what was heard."""
    codec, heard = create_wire_codec(AudioFormat("mulaw", 8000), RATE), []
    start = {"mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000}, "customParameters": parameters}
    with connect(url, additional_headers=headers, compression=None, max_queue=None) as caller:
        caller.send(json.dumps({"event": "start", "streamSid": "MZ1", "start": start}))
        for frame in question():
            payload = base64.b64encode(codec.encode(frame)).decode()
            caller.send(json.dumps({"event": "media", "media": {"track": "inbound", "payload": payload}}))
            while (message := json.loads(caller.recv(timeout=20)))["event"] != "media":
                caller.send(json.dumps(message))  # a mark, which comes back once what is before it has been played
            heard.append(codec.decode(base64.b64decode(message["media"]["payload"])))
        caller.send(json.dumps({"event": "stop"}))
    return np.concatenate(heard)


@functools.cache
def interpreter_with_livekit():
    found = os.environ.get("DUPLEX_TEST_LIVEKIT", sys.executable)
    if subprocess.run([found, "-c", "import livekit.rtc"], capture_output=True, check=False, timeout=60).returncode:
        pytest.skip("livekit is not here; DUPLEX_TEST_LIVEKIT may name an interpreter that has it")
    return found


ROOM = """
import asyncio, sys, wave
sys.path.insert(0, sys.argv[1])
import livekit_room
from livekit import rtc

async def main():
    with wave.open(sys.argv[3]) as file:
        pcm = file.readframes(file.getnframes())
    microphone, voice = rtc.AudioSource(24000, 1), rtc.AudioSource(24000, 1)
    track = rtc.LocalAudioTrack.create_audio_track("user", microphone)
    heard = rtc.AudioStream(rtc.LocalAudioTrack.create_audio_track("agent", voice), sample_rate=24000, num_channels=1)
    loudest, begun = [0], asyncio.Event()

    async def speak():
        await begun.wait()  # the conversation has begun: the agent's silence is heard
        for start in range(0, len(pcm), 3840):
            piece = pcm[start : start + 3840]
            await microphone.capture_frame(rtc.AudioFrame(piece, 24000, 1, len(piece) // 2))

    async def hear():
        async for event in heard:
            begun.set()
            loudest[0] = max(loudest[0], max(memoryview(event.frame.data).cast("B").cast("h")))

    tasks = [asyncio.create_task(speak()), asyncio.create_task(hear())]
    try:
        await asyncio.wait_for(livekit_room.converse(sys.argv[2], track, voice), 9)
    except TimeoutError:  # the track of a microphone does not end by itself
        pass
    assert loudest[0] > 3000, loudest

asyncio.run(main())
"""


@pytest.mark.slow
def test_a_livekit_room():
    """Real tracks of LiveKit's, without a room's server between them: none is to be had here."""
    interpreter = interpreter_with_livekit()
    with duplex.load("tiny") as model, running(model) as server:
        command = [interpreter, "-c", ROOM, EXAMPLES / "cookbook", server.url("/"), EXAMPLES / "question.wav"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    words = [line.split(maxsplit=1)[1] for line in done.stdout.splitlines()]
    assert "Paris" in "".join(words)
