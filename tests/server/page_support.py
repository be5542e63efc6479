"""What the tests of page share."""

import os
import re
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from playwright.sync_api import expect, sync_playwright

from duplex.testing import fake_model
from duplex.transports import wire
from server_support import RATE, until

expect.set_options(timeout=20_000)  # on a busy machine a browser takes seconds
EXAMPLES = Path(__file__).parents[2] / "examples"


CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


FAKE = (
    "--use-fake-device-for-media-stream",
    f"--use-file-for-fake-audio-capture={EXAMPLES / 'question.wav'}%noloop",
)


LISTENING = "Connected: it is listening."
"""What the page tells a screen reader while there is a call."""


AGAIN = f"--use-file-for-fake-audio-capture={EXAMPLES / 'question.wav'}"
"""The question over and over: on a busy machine a part of it may be lost."""


DEVICE = """
const Context = AudioContext;
window.AudioContext = class extends Context {
  constructor(options) { super({ ...options, sampleRate: window.deviceRate }); window.context = this; }
};
const devices = navigator.mediaDevices, getUserMedia = devices.getUserMedia.bind(devices);
devices.getUserMedia = async (wanted) => (window.microphone = await getUserMedia(wanted));
"""
"""Keeps what the page has of the device where a test can reach it; ``deviceRate`` is its rate, if that is set."""


@pytest.fixture(scope="module")
def playwright():
    with sync_playwright() as started:
        yield started


@pytest.fixture
def page(playwright):
    """A page whose microphone plays a recording; what it complains of is an error."""
    yield from opened(playwright, "--use-fake-ui-for-media-stream")


def opened(playwright, *options):
    # No sandbox: tests run as root, too.
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *FAKE, *options])
    try:
        page = browser.new_page()
        complaints = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
        page.complaints = complaints
        yield page
    finally:
        browser.close()


@pytest.fixture
def model():
    with fake_model() as made:
        yield made


def answered(page, server):
    """Begin a call that the test answers in the server's place; return its websocket, as the server has it."""
    lines = []
    page.route_web_socket(re.compile("/api/chat"), lambda line: lines.append(line))  # noqa: PLW0108 -- Playwright sets attributes on it
    page.goto(server.url("/"))
    page.get_by_role("button", name="Start talking").click()
    expect(page.get_by_role("status")).to_have_text("Connecting. Waiting for the server.")
    until(lambda: page.wait_for_timeout(10) or lines, 20)  # it says so while it asks what the server is, too
    lines[0].send(wire.handshake())
    expect(page.get_by_role("status")).to_have_text(LISTENING)
    return lines[0]


def hold_clock(page):
    """Let the page's time pass only where the test says so, from a second and a half on."""
    page.clock.pause_at(page.evaluate("Date.now()") / 1000 + 1.5)


def channels(path):
    """Return a stereo recording at 24 kHz, float32 ``[2, samples]``."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="fltp", layout="stereo", rate=RATE)
        frames = [made for frame in container.decode(audio=0) for made in resampler.resample(frame)]
        return np.concatenate([frame.to_ndarray() for frame in frames], axis=1)


def found_again(pieces_of, sound, seconds=0.2):
    """Return which share of one recording's speech, cut into pieces, is somewhere in another."""
    size = round(seconds * RATE)
    pieces = pieces_of[: len(pieces_of) // size * size].reshape(-1, size)
    loud = [piece for piece in pieces if np.sqrt(np.mean(piece**2)) > 0.02]
    spectrum, energy = np.fft.rfft(sound, 2 * len(sound)), np.cumsum(np.pad(sound**2, (1, 0)))
    norms = np.sqrt(np.maximum(energy[size:] - energy[:-size], 1e-6))

    def likeness(piece):
        product = np.fft.irfft(spectrum * np.conj(np.fft.rfft(piece, 2 * len(sound))))[: len(norms)]
        return np.max(product / norms) / np.sqrt(np.sum(piece**2))

    return np.mean([likeness(piece) > 0.8 for piece in loud])
