"""What the page says: in every state something of its own, true, and reachable for everybody."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from page_support import (  # noqa: F401
    AGAIN,
    CHROMIUM,
    DEVICE,
    EXAMPLES,
    FAKE,
    LISTENING,
    answered,
    model,
    opened,
    page,
    playwright,
)
from playwright.sync_api import expect

import duplex
from duplex.server import Settings
from duplex.server.close_reasons import CloseReason
from duplex.transports import wire
from server_support import running, until

MODELS = [
    {"name": "first", "kind": "moshi", "persona": False, "voices": [], "examples": ["Tell me a joke."]},
    {"name": "second", "kind": "personaplex", "persona": True, "voices": ["NATF0", "NATM1"], "examples": []},
    {"name": "third", "kind": "stt", "persona": False, "voices": [], "examples": []},
]
INFO = {"token": False, "recorded": True, "models": MODELS}


ASK = """
const devices = navigator.mediaDevices, ask = devices.getUserMedia.bind(devices);
devices.getUserMedia = async (wanted) => {
  await new Promise((resolve) => (window.allow = resolve));
  return (window.microphone = await ask(wanted));
};
"""
"""The browser asks, and the test answers with ``allow()``."""


def asked(page):
    """Wait until the browser asks."""
    until(lambda: page.evaluate("window.allow !== undefined"))


def allow(page):
    asked(page)
    page.evaluate("allow(); delete window.allow;")


def told(line, **event):
    line.send(wire.metadata(event))


def title(page):
    return page.locator("#title")


def start(page):
    page.get_by_role("button", name="Start talking").click()
    if page.get_by_role("dialog").is_visible():
        page.get_by_role("button", name="Agree and talk").click()


@pytest.fixture
def asking(playwright):
    """A page whose user asks again and again."""
    yield from opened(playwright, "--use-fake-ui-for-media-stream", AGAIN)


def test_the_first_visit(asking):
    """One click, and the browser's question; what may be said stands there."""
    page = asking
    with duplex.load("tiny") as tiny, running(tiny) as server:
        page.goto(server.url("/"))
        expect(page.get_by_text("What is the capital of France?")).to_be_visible()
        start(page)
        expect(page.get_by_role("status")).to_have_text(LISTENING)
        expect(page.get_by_role("log")).not_to_be_empty(timeout=20_000)
        expect(page.get_by_text("Try saying")).to_be_hidden()
        assert page.complaints == []


def test_who_speaks(page, model):
    """It is told to the eye at once; a screen reader hears of the call alone, or it would never stop."""
    with running(model) as server:
        line = answered(page, server)
        expect(title(page)).to_have_text("It is listening")
        told(line, type="UserSpeechStarted", at=0.5)
        expect(title(page)).to_have_text("It hears you")
        expect(page.locator("#user-speaks")).to_have_text("speaking")
        told(line, type="AgentSpeechStarted", at=0.6)
        expect(title(page)).to_have_text("You are both speaking")
        told(line, type="UserSpeechStopped", at=0.7)
        expect(title(page)).to_have_text("It is speaking")
        expect(page.locator("#agent-speaks")).to_have_text("speaking")
        expect(page.get_by_role("status")).to_have_text(LISTENING)
        page.get_by_role("button", name="Mute").click()
        expect(title(page)).to_have_text("You are muted, it is speaking")
        told(line, type="AgentSpeechStopped", at=0.8)
        expect(title(page)).to_have_text("You are muted")
        expect(page.locator("#user-speaks")).to_have_text("muted")
        expect(page.get_by_role("status")).to_have_text("You are muted.")
        page.get_by_role("button", name="Mute").click()
        expect(title(page)).to_have_text("It is listening")
        page.keyboard.press("Escape")
        expect(title(page)).to_have_text("The conversation is over")
        expect(page.locator("#user-speaks")).to_be_empty()


def test_what_was_lost(page, model):
    """For a while; what a transcriber left out was not lost."""
    with running(model) as server:
        page.clock.install()
        line = answered(page, server)
        told(line, type="Lag", at=0.2, dropped=9.0, behind=9.0, side="transcript")
        told(line, type="Lag", at=0.4, dropped=0.32, behind=0.4, side="user")
        expect(title(page)).to_have_text("The line is slow")
        expect(page.locator("#detail")).to_have_text("0.3 s of your voice did not reach it in time.")
        told(line, type="Lag", at=0.6, dropped=0.16, behind=0.2, side="agent")
        expect(page.locator("#detail")).to_have_text("0.2 s of its voice did not reach you in time.")
        expect(page.locator("#lag")).to_have_text("0.48 s")
        page.clock.run_for(4_500)
        expect(title(page)).to_have_text("It is listening")


def test_the_screen_stays_on_during_a_call(page, model):
    page.add_init_script(
        """
        window.locks = 0;
        navigator.wakeLock.request = async () => {
          locks++;
          return { release: async () => void locks-- };
        };
        """
    )
    with running(model) as server:
        answered(page, server)
        until(lambda: page.evaluate("locks") == 1)
        page.keyboard.press("Escape")
        until(lambda: page.evaluate("locks") == 0)


def test_a_microphone_that_gives_nothing(page, model):
    page.add_init_script(
        f"{DEVICE} const connect = MediaStreamAudioSourceNode.prototype.connect;"
        "MediaStreamAudioSourceNode.prototype.connect = function (to) {"
        " const mute = this.context.createGain(); mute.gain.value = 0; connect.call(this, mute); mute.connect(to); };"
    )
    with running(model) as server:
        answered(page, server)
        expect(title(page)).to_have_text("Your microphone is silent", timeout=15_000)
        expect(page.get_by_role("status")).to_contain_text("Is the right microphone chosen")


def test_waiting_can_be_ended(page, model):
    """While the browser asks, and in the queue; a microphone that is allowed too late is let go."""
    page.add_init_script(ASK)
    with running(model) as server:
        page.goto(server.url("/"))
        start(page)
        expect(title(page)).to_have_text("Allow the microphone")
        expect(page.get_by_role("status")).to_contain_text("Allow the microphone")
        asked(page)
        page.keyboard.press("Escape")
        expect(title(page)).to_have_text("Talk with it")
        allow(page)
        until(lambda: page.evaluate("window.microphone?.getTracks()[0].readyState === 'ended'"))
        with server.call() as first:
            first.until(wire.Kind.HANDSHAKE)
            start(page)
            allow(page)
            expect(title(page)).to_have_text("You are next in the queue")
            page.get_by_role("button", name="Cancel").click()
            expect(title(page)).to_have_text("Talk with it")
        expect(page.get_by_role("alert")).to_be_hidden()
        assert page.complaints == []


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (1000, "this conversation has reached the server's time limit; call again", "Time is up"),
        (1008, "no audio came for too long; call again", "The server ended the call"),
        (1011, "the conversation failed; call again", "The model failed"),
        (1012, "the server is about to restart; call again in a minute", "The server is restarting"),
        (4012, "the server is about to restart; call again in a minute", "The server is restarting"),
        (1013, "every place is taken, and the queue is full; call again later", "No place is free"),
    ],
)
def test_the_server_ends_the_call(page, model, code, text, expected):
    with running(model) as server:
        line = answered(page, server)
        line.send(wire.error(text))
        line.close(code=code)
        expect(page.get_by_role("alert")).to_contain_text(expected)
        expect(page.get_by_role("alert")).to_contain_text(text[1:])
        start(page)
        expect(page.get_by_role("alert")).to_be_hidden()


@pytest.mark.parametrize("reason", [CloseReason.RESUME_UNKNOWN, CloseReason.RESUME_BEHIND])
def test_a_conversation_that_the_server_has_no_more(page, model, reason):
    """The server's own words are for programs."""
    with running(model) as server:
        line = answered(page, server)
        line.send(wire.error(reason.text))
        line.close(code=reason.code)
        expect(page.get_by_role("alert")).to_contain_text("Start a new one")
        expect(page.get_by_role("alert")).not_to_contain_text("token")


def test_a_call_that_the_server_does_not_take(page, model):
    """It is not the line: what was asked for in the address was refused."""
    with running(model) as server:
        page.route("**/api/info", lambda route: route.fulfill(json=INFO))
        page.goto(server.url("/"))
        page.get_by_text("Settings").click()
        page.get_by_label("Model").select_option("second")
        start(page)
        expect(page.get_by_role("alert")).to_contain_text("did not take the call")


def test_choices(page, model):
    """Each model has its own; what is chosen is in the address."""
    lines = []
    page.route_web_socket(re.compile("/api/chat"), lambda line: lines.append(line))  # noqa: PLW0108 -- Playwright sets attributes on it
    page.route("**/api/info", lambda route: route.fulfill(json=INFO))
    with running(model) as server:
        page.goto(server.url("/"))
        expect(page.get_by_label("Model")).to_be_hidden()
        page.get_by_text("Settings").click()
        expect(page.get_by_label("Its voice")).to_be_hidden()
        expect(page.get_by_text("Tell me a joke.")).to_be_visible()
        page.get_by_label("Model").select_option("third")
        expect(title(page)).to_have_text("Say something")
        page.get_by_label("Model").select_option("second")
        expect(title(page)).to_have_text("Talk with it")
        expect(page.get_by_text("Tell me a joke.")).to_be_hidden()
        page.get_by_label("Who the agent is").fill("You are a baker & know bread.")
        page.keyboard.press("m")
        page.get_by_label("Its voice").select_option("NATM1")
        start(page)
        expect(title(page)).to_have_text("Connecting")
        expect(page.get_by_text("Settings")).to_be_hidden()
        query = re.search(
            "model=second&instructions=You\\+are\\+a\\+baker\\+%26\\+know\\+bread.m&voice=NATM1", lines[0].url
        )
        assert query is not None


@pytest.mark.parametrize("chosen", [False, True])
def test_words_are_read_aloud_for_who_wants_it(page, model, chosen):
    """They are heard already; who reads with the fingers can have them."""
    with running(model) as server:
        page.goto(server.url("/"))
        page.get_by_text("Settings").click()
        page.get_by_label("Let a screen reader read the words").set_checked(chosen)
        expect(page.locator("#words")).to_have_attribute("aria-live", "polite" if chosen else "off")


@pytest.mark.parametrize(("scheme", "width"), [("light", 360), ("dark", 1440)])
def test_nobody_is_shut_out(page, model, scheme, width):
    """No rule of accessibility is broken in any state, however long looking takes; a phone's screen is wide enough."""

    def check(state):
        expect(page.locator("body")).to_have_attribute("data-state", state)
        assert Axe().run(page).response["violations"] == [], state
        assert page.evaluate("document.documentElement.scrollWidth") <= width

    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 740})
    page.route("**/api/info", lambda route: route.fulfill(json={**INFO, "token": True, "models": MODELS[::-1]}))
    page.route("**/api/ticket", lambda route: route.fulfill(json={"ticket": "ticket"}))
    lines = []

    def answer(line):
        line.on_message(lambda message: line.send(wire.ping()) if message == wire.ping() else None)
        lines.append(line)

    page.route_web_socket(re.compile("/api/chat"), answer)
    with running(model, Settings()) as server:
        page.goto(server.url("/"))
        page.get_by_text("Settings").click()
        page.get_by_label("Model").select_option("second")
        start(page)
        expect(page.get_by_role("alert")).to_contain_text("asks for a token")
        check("idle")
        page.get_by_label("Token").fill("a-token-of-some-length")
        start(page)
        check("connecting")
        told(lines[0], type="Queued", position=2)
        check("queued")
        lines[0].send(wire.handshake())
        told(lines[0], type="UserSpeechStarted", at=0.1)
        check("hearing")
        told(lines[0], type="AgentSpeechStarted", at=0.2)
        told(lines[0], type="AgentText", text=" Hello.", at=0.2)
        told(lines[0], type="UserText", text="Hello!", at=0.1)
        check("both")
        told(lines[0], type="UserSpeechStopped", at=0.3)
        check("speaking")
        told(lines[0], type="Lag", at=0.4, dropped=0.3, behind=0.3, side="user")
        check("lag")
        page.keyboard.press("m")
        check("muted")
        page.get_by_text("Connection").click()
        lines[0].send(wire.error("the conversation failed; call again"))
        lines[0].close(code=1011)
        check("over")
