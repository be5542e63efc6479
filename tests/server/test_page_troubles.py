"""The page when something is wrong: the microphone, the line, the server."""

import re
import threading
from importlib.resources import files

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from page_support import (  # noqa: F401
    CHROMIUM,
    DEVICE,
    EXAMPLES,
    FAKE,
    LISTENING,
    answered,
    channels,
    hold_clock,
    model,
    opened,
    page,
    playwright,
)
from playwright.sync_api import expect

from duplex.audio.ogg import OggWriter
from duplex.audio.synthetic_mark import read_mark
from duplex.server import Settings
from duplex.transports import wire
from server_support import RATE, running

TOKEN = "a-token-of-some-length"  # noqa: S105 -- a test's


@pytest.fixture
def page_without_microphone(playwright):
    """A page that may not use a microphone."""
    yield from opened(playwright, "--deny-permission-prompts")


def test_a_microphone_that_is_refused(page_without_microphone, model):
    page = page_without_microphone
    with running(model) as server:
        page.goto(server.url("/"))
        page.get_by_role("button", name="Start talking").click()
        expect(page.get_by_role("alert")).to_contain_text("Allow it in the address bar")
        expect(page.get_by_role("button", name="Start talking")).to_be_enabled()
        assert Axe().run(page).response["violations"] == []


def test_a_queue_and_a_full_server(page, model):
    with running(model, Settings(queue=1)) as server:
        page.goto(server.url("/"))
        with server.call() as first:
            first.next()
            page.get_by_role("button", name="Start talking").click()
            expect(page.get_by_role("status")).to_have_text(re.compile("You are next in the queue"))
            page.get_by_role("button", name="Cancel").click()
            with server.call() as second:
                second.next()
                page.get_by_role("button", name="Start talking").click()
                expect(page.get_by_role("alert")).to_contain_text("Every place is taken")


def test_a_connection_that_is_lost(page, model):
    with running(model) as server:
        page.goto(server.url("/"))
        page.get_by_role("button", name="Start talking").click()
        expect(page.get_by_role("status")).to_have_text(LISTENING)
        threading.Timer(0.1, server.cancel).start()
        expect(page.get_by_role("alert")).to_contain_text("about to restart")
    page.get_by_role("button", name="Start talking").click()
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached")


def test_a_server_that_wants_a_token(page, model):
    with running(model, Settings(tokens=(TOKEN,))) as server:
        page.goto(server.url("/"))
        page.get_by_role("button", name="Start talking").click()
        expect(page.get_by_role("alert")).to_contain_text("asks for a token")
        expect(page.get_by_label("Token of this server")).to_be_focused()
        page.get_by_label("Token of this server").fill("wrong")
        page.get_by_role("button", name="Start talking").click()
        expect(page.get_by_role("alert")).to_contain_text("does not know this token")
        page.get_by_label("Token of this server").fill("\N{SNOWMAN}" * 16)
        page.get_by_role("button", name="Start talking").click()
        expect(page.get_by_role("alert")).to_contain_text("does not know this token")
        page.get_by_label("Token of this server").fill(TOKEN)
        page.get_by_label("Token of this server").press("Enter")
        expect(page.get_by_role("status")).to_have_text(LISTENING)
        expect(page.get_by_label("Token of this server")).to_be_hidden()
        expect(page.get_by_role("button", name="End the call")).to_be_focused()
        page.get_by_role("button", name="End the call").click()
        page.get_by_role("button", name="Start talking").click()
        expect(page.get_by_role("status")).to_have_text(LISTENING)


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (None, "cannot be reached"),
        (403, "does not let you in"),
        (429, "Wait a minute"),
        (502, "in trouble"),
        (404, "Reload"),
        (200, "cannot be reached"),  # an answer without a ticket, of who stands between
    ],
)
def test_no_ticket(page, model, status, advice):
    """Each reason why a token does not let its owner in has words of its own."""
    page.route("**/api/ticket", lambda route: route.fulfill(status=status) if status else route.abort())
    with running(model, Settings(tokens=(TOKEN,))) as server:
        page.goto(server.url("/"))
        page.get_by_label("Token of this server").fill(TOKEN)
        page.get_by_role("button", name="Start talking").click()
        expect(page.get_by_role("alert")).to_contain_text(advice)
        expect(page.get_by_role("button", name="Start talking")).to_be_enabled()


def test_a_server_that_has_gone(page, model):
    """It cannot be reached for the worklets, which a page that has never called has not loaded yet."""
    with running(model) as server:
        page.goto(server.url("/"))
        expect(page.locator("#talking-to")).to_have_text("fake")
    page.get_by_role("button", name="Start talking").click()
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached")


def test_sound_that_cannot_be_decoded(page, model):
    with running(model) as server:
        line = answered(page, server)
        line.send(wire.audio(OggWriter(1).page([b"\xff"], 0)))
        expect(page.get_by_role("alert")).to_contain_text("failed to code the sound")
        expect(page.get_by_role("button", name="Start talking")).to_be_enabled()
        assert page.complaints == []


def test_a_server_that_falls_silent(page, model):
    with running(model) as server:
        page.clock.install()
        answered(page, server)
        hold_clock(page)
        page.clock.run_for(8_000)
        expect(page.get_by_role("status")).to_have_text(LISTENING)
        page.clock.run_for(4_000)
        expect(page.get_by_role("alert")).to_contain_text("The connection was lost")


def test_a_server_that_waits_and_falls_silent(page, model):
    """In a conversation that goes on where it was the page comes back much sooner."""
    with running(model) as server:
        page.clock.install()
        line = answered(page, server)
        line.send(wire.metadata({"type": "Session", "resume": "a-token", "seconds": 30}))
        page.clock.run_for(3_000)
        expect(page.locator("#title")).to_have_text("It is listening")
        page.clock.run_for(4_000)
        expect(page.locator("#title")).to_have_text("The line is broken")
        assert page.complaints == []


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
        page.get_by_role("button", name="Start talking").click()
        expect(page.get_by_role("alert")).to_contain_text("Use one device for both")
        assert page.evaluate("[context.state, microphone.getTracks()[0].readyState]") == ["closed", "ended"]
        assert page.complaints == []


# The page's policy forbids what `wait_for_function` does from its second look on.
SOUND_IS = """
(state) => new Promise((resolve) => {
  const look = () => context.state === state && resolve();
  context.addEventListener("statechange", look);
  look();
})
"""


def test_a_device_that_pauses_the_sound(page, model):
    """The page goes on as soon as it may, and gives up after a while."""
    page.add_init_script(DEVICE)
    with running(model) as server:
        page.clock.install()
        answered(page, server)
        page.evaluate("context.suspend()")
        page.evaluate(SOUND_IS, "running")
        page.evaluate("void (context.resume = async () => { throw new Error('not now'); })")
        page.evaluate("context.suspend()")
        page.evaluate(SOUND_IS, "suspended")
        page.clock.run_for(4_000)
        expect(page.get_by_role("status")).to_have_text(LISTENING)
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
        page.get_by_role("button", name="Start talking").click()
        expect(page.get_by_role("log")).not_to_be_empty()
        page.get_by_role("button", name="End the call").click()
    page.get_by_role("button", name="Start talking").click()
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
    expect(page.get_by_role("log")).not_to_be_empty()
    with page.expect_download() as download:
        save.click()
    download.value.save_as(tmp_path / "page.wav")
    assert channels(tmp_path / "page.wav").shape[1] > 0
    assert read_mark(tmp_path / "page.wav") == "right", "it says of itself what the server's recordings say"
    page.evaluate("document.querySelector('#words').append('of the call before')")
    with running(model, port=server.port):
        page.get_by_role("button", name="Start talking").click()
        expect(page.get_by_role("status")).to_have_text(LISTENING)
        expect(save).to_be_hidden()
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
        page.get_by_role("button", name="End the call").click()
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
        page.get_by_role("button", name="End the call").click()
        expect(page.get_by_role("log").locator("p")).to_have_text(["The capital of France.", "Paris"])
        changes = page.evaluate("changes")
    assert {(kind, removed) for kind, _, removed in changes} == {("childList", 0)}
    assert [text for _, (text,), _ in changes] == ["The", " capital", " of", " France.", "Paris"]


@pytest.mark.parametrize("recorded", [False, True])
def test_the_page_says_when_calls_are_recorded(page, model, tmp_path, recorded):
    with running(model, Settings(record=tmp_path if recorded else None)) as server:
        page.goto(server.url("/"))
        expect(page.locator("#talking-to")).to_have_text(model.name)
        expect(page.get_by_text("This server records all conversations.")).to_be_visible(visible=recorded)
