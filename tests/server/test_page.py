"""The web page in a real browser, with a recording as its microphone, on the built-in model."""

import os
import re
import shutil
import threading
from importlib.resources import files
from pathlib import Path

import av
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

import duplex
from duplex.audio.ogg import OggWriter
from duplex.server import Settings
from duplex.testing import fake_model
from duplex.transports import wire
from server_support import RATE, running

EXAMPLES = Path(__file__).parents[2] / "examples"
TOKEN = "a-token-of-some-length"  # noqa: S105 -- a test's
ANSWER = "The capital of France is Paris."
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
FAKE = (
    "--use-fake-device-for-media-stream",
    f"--use-file-for-fake-audio-capture={EXAMPLES / 'question.wav'}%noloop",
)
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


@pytest.fixture
def page_without_microphone(playwright):
    """A page that may not use a microphone."""
    yield from opened(playwright, "--deny-permission-prompts")


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
    page.get_by_role("button", name="Talk").click()
    expect(page.get_by_role("status")).to_have_text("Waiting for the server.")
    lines[0].send(wire.handshake())
    expect(page.get_by_role("status")).to_have_text("Talk: it listens.")
    return lines[0]


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


@pytest.mark.parametrize("browser", ["new", "old"])
def test_the_answer_is_on_the_page_and_in_the_recording(page, tmp_path, browser):
    """So it is in a browser without codecs, on a device whose rate is not the page's."""
    if browser == "old":
        page.add_init_script("delete window.AudioEncoder; window.deviceRate = 44100; " + DEVICE)
    with duplex.load("tiny") as tiny, running(tiny, Settings(record=tmp_path / "calls")) as server:
        page.goto(server.url("/"))
        page.get_by_role("button", name="Talk").click()
        expect(page.get_by_role("log")).to_contain_text(ANSWER, timeout=20_000)
        expect(page.locator("#agent-speaks")).to_have_text("listens", timeout=10_000)
        assert page.locator("#model").inner_text() == "tiny"
        page.get_by_role("button", name="Hang up").click()
        expect(page.get_by_role("status")).to_have_text("The conversation is over.")
        with page.expect_download() as download:
            page.get_by_role("button", name="Save the recording").click()
        download.value.save_as(tmp_path / "page.wav")
        assert page.complaints == []
    (recorded,) = (tmp_path / "calls").iterdir()
    user, agent = channels(tmp_path / "page.wav")
    theirs = channels(recorded / "dialogue.wav")
    assert found_again(theirs[1], agent) > 0.7, "the agent, as the server recorded it"
    assert found_again(theirs[0], user) > 0.7
    asked = channels(EXAMPLES / "question.wav")[0]
    assert found_again(asked, user) > 0.5, "neither faster nor slower than it was"


def test_everything_works_from_the_keyboard(page, model):
    """The focus stays where it was put."""
    mute = page.get_by_role("button", name="Mute")
    with running(model) as server:
        page.goto(server.url("/"))
        page.keyboard.press("Tab")
        expect(page.get_by_role("button", name="Talk")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.get_by_role("status")).to_have_text("Talk: it listens.")
        expect(page.get_by_role("button", name="Hang up")).to_be_focused()
        page.keyboard.press("m")
        expect(mute).to_have_attribute("aria-pressed", "true")
        page.keyboard.press("M")  # with Caps Lock
        expect(mute).to_have_attribute("aria-pressed", "false")
        for _ in range(2):  # held down: once
            page.keyboard.down("m")
        expect(mute).to_have_attribute("aria-pressed", "true")
        page.keyboard.up("m")
        for modifier in ("Alt", "Control", "Meta"):
            page.keyboard.press(f"{modifier}+m")
        expect(mute).to_have_attribute("aria-pressed", "true")
        page.get_by_role("button", name="Hang up").press("Space")
        expect(page.get_by_role("status")).to_have_text("The conversation is over.")
        expect(page.get_by_role("button", name="Talk")).to_be_focused()
        page.keyboard.press("Tab")
        expect(mute).to_be_focused()
        expect(mute).to_be_disabled()
        page.keyboard.press("Enter")
        page.keyboard.press("m")
        expect(mute).to_have_attribute("aria-pressed", "false")


@pytest.mark.parametrize(("motion", "fewest", "most"), [("reduce", 2, 6), ("no-preference", 10, 40)])
def test_motion_that_is_unwelcome(page, model, motion, fewest, most):
    """The lanes change twice a second then, not with every frame."""
    page.emulate_media(reduced_motion=motion)
    with running(model) as server:
        answered(page, server)
        drawn = page.evaluate(
            """
            async () => {
              const lanes = document.querySelector("#lanes"), drawn = new Set();
              for (const end = performance.now() + 2000; performance.now() < end; ) {
                drawn.add(lanes.toDataURL());
                await new Promise((resolve) => setTimeout(resolve, 20));
              }
              return drawn.size;
            }
            """
        )
    assert fewest <= drawn <= most


def test_a_double_click_is_one_click(page, model):
    with running(model) as server:
        page.goto(server.url("/"))
        page.get_by_role("button", name="Talk").dblclick()
        expect(page.get_by_role("status")).to_have_text("Talk: it listens.")
        page.get_by_role("button", name="Hang up").dblclick()
        expect(page.get_by_role("status")).to_have_text("The conversation is over.")
        expect(page.get_by_role("button", name="Talk")).to_be_enabled()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_shut_out(page, model, scheme):
    """No rule of accessibility is broken, idle or talking; a phone's screen is wide enough."""
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 360, "height": 740})
    with running(model) as server:
        page.goto(server.url("/"))
        assert Axe().run(page).response["violations"] == []
        page.get_by_role("button", name="Talk").click()
        expect(page.get_by_role("status")).to_have_text("Talk: it listens.")
        assert Axe().run(page).response["violations"] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_microphone_that_is_refused(page_without_microphone, model):
    page = page_without_microphone
    with running(model) as server:
        page.goto(server.url("/"))
        page.get_by_role("button", name="Talk").click()
        expect(page.get_by_role("alert")).to_contain_text("Allow it in the address bar")
        expect(page.get_by_role("button", name="Talk")).to_be_enabled()
        assert Axe().run(page).response["violations"] == []


def test_a_queue_and_a_full_server(page, model):
    with running(model, Settings(queue=1)) as server:
        page.goto(server.url("/"))
        with server.call() as first:
            first.next()
            page.get_by_role("button", name="Talk").click()
            expect(page.get_by_role("status")).to_have_text("You are next in the queue.")
            page.get_by_role("button", name="Hang up").click()
            with server.call() as second:
                second.next()
                page.get_by_role("button", name="Talk").click()
                expect(page.get_by_role("alert")).to_contain_text("Every place is taken")


def test_a_connection_that_is_lost(page, model):
    with running(model) as server:
        page.goto(server.url("/"))
        page.get_by_role("button", name="Talk").click()
        expect(page.get_by_role("status")).to_have_text("Talk: it listens.")
        threading.Timer(0.1, server.cancel).start()
        expect(page.get_by_role("alert")).to_contain_text("about to restart")
    page.get_by_role("button", name="Talk").click()
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached")


def test_a_server_that_wants_a_token(page, model):
    with running(model, Settings(tokens=(TOKEN,))) as server:
        page.goto(server.url("/"))
        page.get_by_role("button", name="Talk").click()
        expect(page.get_by_role("alert")).to_contain_text("asks for a token")
        expect(page.get_by_label("Token of this server")).to_be_focused()
        page.get_by_label("Token of this server").fill("wrong")
        page.get_by_role("button", name="Talk").click()
        expect(page.get_by_role("alert")).to_contain_text("does not know this token")
        page.get_by_label("Token of this server").fill("\N{SNOWMAN}" * 16)
        page.get_by_role("button", name="Talk").click()
        expect(page.get_by_role("alert")).to_contain_text("does not know this token")
        page.get_by_label("Token of this server").fill(TOKEN)
        page.get_by_label("Token of this server").press("Enter")
        expect(page.get_by_role("status")).to_have_text("Talk: it listens.")
        page.get_by_label("Token of this server").press("Enter")
        expect(page.get_by_role("button", name="Hang up")).to_be_enabled()


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (None, "cannot be reached"),
        (403, "does not let you in"),
        (429, "Wait a minute"),
        (502, "in trouble"),
        (404, "Reload"),
    ],
)
def test_no_ticket(page, model, status, advice):
    """Each reason why a token does not let its owner in has words of its own."""
    page.route("**/api/ticket", lambda route: route.fulfill(status=status) if status else route.abort())
    with running(model, Settings(tokens=(TOKEN,))) as server:
        page.goto(server.url("/"))
        page.get_by_label("Token of this server").fill(TOKEN)
        page.get_by_role("button", name="Talk").click()
        expect(page.get_by_role("alert")).to_contain_text(advice)
        expect(page.get_by_role("button", name="Talk")).to_be_enabled()


def test_a_server_that_has_gone(page, model):
    """It cannot be reached for the worklets, which a page that has never called has not loaded yet."""
    with running(model) as server:
        page.goto(server.url("/"))
        expect(page.locator("#model")).to_have_text("fake")
    page.get_by_role("button", name="Talk").click()
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached")


def test_sound_that_cannot_be_decoded(page, model):
    with running(model) as server:
        line = answered(page, server)
        line.send(wire.audio(OggWriter(1).page([b"\xff"], 0)))
        expect(page.get_by_role("alert")).to_contain_text("failed to code the sound")
        expect(page.get_by_role("button", name="Talk")).to_be_enabled()
        assert page.complaints == []


def test_a_server_that_falls_silent(page, model):
    with running(model) as server:
        page.clock.install()
        answered(page, server)
        page.clock.run_for(9_000)
        expect(page.get_by_role("status")).to_have_text("Talk: it listens.")
        page.clock.run_for(4_000)
        expect(page.get_by_role("alert")).to_contain_text("The connection was lost")


def test_the_time_to_the_server_and_back(page, model):
    """It is that of the page's own pings; those that the server sends of itself are no answers."""
    with running(model) as server:
        page.clock.install()
        line = answered(page, server)
        line.on_message(lambda message: line.send(wire.ping()) if message == wire.ping() else None)
        line.send(wire.ping())
        page.clock.run_for(1_000)
        expect(page.locator("#network")).to_have_text("\N{EN DASH}")
        page.clock.run_for(1_000)
        expect(page.locator("#network")).to_contain_text("ms")
        shown = page.locator("#network").inner_text()
        page.clock.run_for(500)
        line.send(wire.ping())
        line.send(wire.metadata({"type": "AgentText", "text": "FrameActivity."}))
        expect(page.get_by_role("log")).to_contain_text("FrameActivity.")
        assert page.locator("#network").inner_text() == shown


def test_a_microphone_that_is_unplugged(page, model):
    page.add_init_script(DEVICE)
    with running(model) as server:
        answered(page, server)
        page.evaluate("microphone.getTracks()[0].dispatchEvent(new Event('ended'))")
        expect(page.get_by_role("alert")).to_contain_text("The microphone is gone")
        assert page.evaluate("context.state") == "closed"


def test_a_microphone_that_cannot_be_joined(page, model):
    """As in Firefox, where its rate is another than the context's; everything is let go."""
    refuse = "() => { throw new DOMException('', 'NotSupportedError'); }"
    page.add_init_script(f"{DEVICE} AudioContext.prototype.createMediaStreamSource = {refuse};")
    with running(model) as server:
        page.goto(server.url("/"))
        page.get_by_role("button", name="Talk").click()
        expect(page.get_by_role("alert")).to_contain_text("Use one device for both")
        assert page.evaluate("[context.state, microphone.getTracks()[0].readyState]") == ["closed", "ended"]
        assert page.complaints == []


def test_a_device_that_pauses_the_sound(page, model):
    """The page goes on as soon as it may, and gives up after a while."""
    page.add_init_script(DEVICE)
    with running(model) as server:
        page.clock.install()
        answered(page, server)
        page.evaluate("context.suspend()")
        page.wait_for_function("context.state === 'running'")
        page.evaluate("void (context.resume = async () => { throw new Error('not now'); })")
        page.evaluate("context.suspend()")
        page.wait_for_function("context.state === 'suspended'")
        page.clock.run_for(4_000)
        expect(page.get_by_role("status")).to_have_text("Talk: it listens.")
        page.clock.run_for(2_000)
        expect(page.get_by_role("alert")).to_contain_text("The device has paused the sound")
        assert page.complaints == []


STALL = """
async () => {
  const context = new OfflineAudioContext(1, 2 * 48000, 48000);
  await context.audioWorklet.addModule("playback-worklet.js");
  const node = new AudioWorkletNode(context, "playback", { numberOfInputs: 0, outputChannelCount: [1] });
  node.connect(context.destination);
  const play = async (frames) => {
    for (const level of frames) node.port.postMessage(new Float32Array(3840).fill(level));
    await new Promise((resolve) => setTimeout(resolve, 200));
  };
  await play([0.1, 0.1, 0.1]);
  context.suspend(1).then(() => play([0.2, 0.3, 0.4, 0.5, 0.6])).then(() => context.resume());
  return [...(await context.startRendering()).getChannelData(0)];
}
"""
"""Plays three frames; when they are long over, five more come at once."""


def test_a_burst_after_a_stall_keeps_nothing_late(page, model):
    with running(model) as server:
        page.goto(server.url("/"))
        heard = np.array(page.evaluate(STALL))
    before, after = np.split(heard, [48000])
    assert np.sum(before > 0) == pytest.approx(3 * 3840, abs=64), "nothing of what came in time is lost"
    assert after.max() == pytest.approx(0.6)
    assert np.sum(after > 0) <= (0.12 + 0.08) * 48000 + 128, "seconds of delay: the target and a frame"


def test_a_call_is_kept_until_the_next_one_begins(page, model, tmp_path):
    save = page.get_by_role("button", name="Save the recording")
    with running(model) as server:
        page.goto(server.url("/"))
        page.get_by_role("button", name="Talk").click()
        expect(page.get_by_role("log")).not_to_be_empty()
        page.get_by_role("button", name="Hang up").click()
    page.get_by_role("button", name="Talk").click()
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
    expect(page.get_by_role("log")).not_to_be_empty()
    with page.expect_download() as download:
        save.click()
    download.value.save_as(tmp_path / "page.wav")
    assert channels(tmp_path / "page.wav").shape[1] > 0
    page.evaluate("document.querySelector('#words').append('of the call before')")
    with running(model, port=server.port):
        page.get_by_role("button", name="Talk").click()
        expect(page.get_by_role("status")).to_have_text("Talk: it listens.")
        expect(save).to_be_disabled()
        expect(page.get_by_role("log")).not_to_contain_text("of the call before")


def test_of_a_long_call_the_end_is_kept(page, model, tmp_path):
    """An hour of it; here it has two seconds."""
    script = files("duplex.server").joinpath("page", "main.js").read_text()
    assert script.count("3600") == 1
    page.route(
        "**/main.js", lambda route: route.fulfill(body=script.replace("3600", "2"), content_type="text/javascript")
    )
    with running(model) as server:
        answered(page, server)
        expect(page.get_by_text("Only the last hour is kept")).to_be_visible(timeout=10_000)
        page.wait_for_timeout(1_000)
        page.get_by_role("button", name="Hang up").click()
        with page.expect_download() as download:
            page.get_by_role("button", name="Save the recording").click()
    download.value.save_as(tmp_path / "page.wav")
    assert 2 <= channels(tmp_path / "page.wav").shape[1] / RATE < 3


def test_words_are_added_whole_and_once(page, model):
    """A screen reader reads what changes: no more than the word that came."""
    with running(model) as server:
        line = answered(page, server)
        page.evaluate(
            """
            window.changes = [];
            const tell = ({ type, addedNodes, removedNodes }) =>
              changes.push([type, [...addedNodes].map((node) => node.textContent), removedNodes.length]);
            new MutationObserver((records) => records.forEach(tell)).observe(
              document.querySelector("#words"), { subtree: true, childList: true, characterData: true });
            """
        )
        for piece in ("The", " cap", "ital", " of", " France."):
            line.send(wire.metadata({"type": "AgentText", "text": piece}))
        expect(page.get_by_role("log")).to_have_text("The capital of France.")
        line.send(wire.metadata({"type": "UserSpeechStarted"}))
        line.send(wire.metadata({"type": "AgentText", "text": "Paris"}))
        page.get_by_role("button", name="Hang up").click()
        expect(page.get_by_role("log").locator("p")).to_have_text(["The capital of France.", "Paris"])
        changes = page.evaluate("changes")
    assert {(kind, removed) for kind, _, removed in changes} == {("childList", 0)}
    assert [text for _, (text,), _ in changes] == ["The", " capital", " of", " France.", "Paris"]
