"""Who is faster than the server: the button is pressed before the page knows what the server asks of its callers."""

import pytest
from page_support import LISTENING, model, page, playwright  # noqa: F401
from playwright.sync_api import expect

from duplex.server import Settings
from server_support import running, until


@pytest.fixture
def held(page):
    """The page's questions what the server is, which are answered when the test says so."""
    questions = []
    page.route("**/api/info", lambda route: questions.append(route))  # noqa: PLW0108 -- Playwright sets attributes on it
    return questions


def press(page):
    page.get_by_role("button", name="Start talking").click()
    expect(page.locator("#title")).to_have_text("Connecting")


def test_a_token_is_asked_for(page, held, model):
    with running(model, Settings(tokens=("a-token-of-some-length",))) as server:
        page.goto(server.url("/"))
        press(page)
        expect(page.get_by_label("Token of this server")).to_be_hidden()
        held[0].continue_()
        expect(page.get_by_role("alert")).to_contain_text("asks for a token")
        expect(page.get_by_label("Token of this server")).to_be_focused()
        expect(page.locator("body")).to_have_attribute("data-phase", "idle")


def test_nobody_is_recorded_unasked(page, held, model, tmp_path):
    with running(model, Settings(record=tmp_path)) as server:
        page.goto(server.url("/"))
        press(page)
        held[0].continue_()
        expect(page.get_by_role("dialog")).to_be_visible()
        assert not list(tmp_path.glob("*.wav"))


def test_the_call_begins_by_itself(page, held, model):
    with running(model) as server:
        page.goto(server.url("/"))
        press(page)
        held[0].continue_()
        expect(page.get_by_role("status")).to_have_text(LISTENING)


@pytest.mark.parametrize("key", [None, "Escape"])
def test_cancelled(page, held, model, key):
    """Pressed twice more, one call begins and not two; Escape cancels as the button does."""
    calls = []
    page.on("websocket", lambda call: calls.append(call))  # noqa: PLW0108 -- Playwright sets attributes on it
    with running(model) as server:
        page.goto(server.url("/"))
        press(page)
        page.keyboard.press(key) if key else page.get_by_role("button", name="Cancel").click()
        expect(page.locator("#title")).to_have_text("Talk with it")
        press(page)
        held[0].continue_()
        expect(page.get_by_role("status")).to_have_text(LISTENING)
        assert len(held) == len(calls) == 1


def test_cancelled_for_good(page, held, model):
    with running(model) as server:
        page.goto(server.url("/"))
        press(page)
        page.get_by_role("button", name="Cancel").click()
        held[0].continue_()
        expect(page.locator("#talking-to")).to_have_text("fake")
        expect(page.locator("body")).to_have_attribute("data-phase", "idle")


def test_a_server_that_could_not_be_reached(page, held, model):
    """It is asked again when the button is pressed."""
    with running(model) as server:
        page.goto(server.url("/"))
        held[0].abort()
        expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
        press(page)
        expect(page.get_by_role("alert")).to_be_hidden()
        held[1].fulfill(status=502)
        expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
        press(page)
        held[2].continue_()
        expect(page.get_by_role("status")).to_have_text(LISTENING)


SLOW = """
    window.asked = 0;
    const devices = navigator.mediaDevices, ask = devices.getUserMedia.bind(devices);
    devices.getUserMedia = async (wanted) => (window.asked++, (window.microphone = await ask(wanted)));
    const held = (object, name) => {
        const whole = object[name];
        object[name] = async function (...given) {
            if (window.slow === name) await new Promise((resolve) => (window.goOn = resolve));
            return whole.apply(this, given);
        };
    };
    held(AudioWorklet.prototype, "addModule");
    held(AudioContext.prototype, "resume");
"""
"""A page whose modules, or whose device, take until ``goOn()``; which of them is in ``slow``."""


@pytest.mark.parametrize(("slow", "asked"), [("addModule", 0), ("resume", 1)])
def test_who_cancels_has_no_microphone_on(page, model, slow, asked):
    """What the page needs is there before it asks for the microphone; it lets go of that at once."""
    page.add_init_script(SLOW)
    with running(model) as server:
        page.goto(server.url("/"))
        page.evaluate(f"window.slow = '{slow}'")
        start = page.get_by_role("button", name="Start talking")
        start.click()
        until(lambda: page.evaluate("window.goOn !== undefined"))
        page.get_by_role("button", name="Cancel").click()
        expect(start).to_be_visible()
        assert page.evaluate("window.asked") == asked
        until(lambda: page.evaluate("(window.microphone?.getTracks()[0].readyState ?? 'ended') === 'ended'"))
        page.evaluate("goOn(); window.slow = ''")
        start.click()
        expect(page.get_by_role("status")).to_have_text(LISTENING)
        assert page.evaluate("window.asked") == asked + 1


def test_a_device_that_never_starts(page, model):
    page.add_init_script(SLOW)
    with running(model) as server:
        page.goto(server.url("/"))
        page.evaluate("window.slow = 'resume'")
        page.get_by_role("button", name="Start talking").click()
        expect(page.get_by_role("alert")).to_contain_text("The device has paused the sound")
        assert page.evaluate("window.microphone.getTracks()[0].readyState") == "ended"


def test_a_key_that_is_held_presses_once(page, model):
    calls = []
    page.on("websocket", lambda call: calls.append(call))  # noqa: PLW0108 -- as above
    with running(model) as server:
        page.goto(server.url("/"))
        page.get_by_role("button", name="Start talking").focus()
        for _ in range(4):
            page.keyboard.down("Enter")
        expect(page.get_by_role("status")).to_have_text(LISTENING)
        page.keyboard.down("Enter")
        page.keyboard.up("Enter")
        page.keyboard.press("m")
        expect(page.locator("#title")).to_have_text("You are muted")
        assert len(calls) == 1
