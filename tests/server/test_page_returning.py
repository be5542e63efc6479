"""The page while its line is broken: it tries again, says so, and gives back what it does not need."""

import re

import pytest
from page_support import FAKE, LISTENING, answered, model, page, playwright  # noqa: F401
from playwright.sync_api import expect
from resuming_support import CutLine

from duplex.server import Settings
from duplex.transports import wire
from server_support import running, until

GRACE = 600
"""Seconds that a server keeps a conversation: more than any test waits."""
MODEL = {"name": "moshi", "kind": "moshi", "persona": False, "voices": [], "examples": []}
INFO = {"token": False, "recorded": False, "placed": True, "models": [MODEL]}


@pytest.fixture
def line(model):
    with running(model, Settings(resume_grace=GRACE)) as server, CutLine(server.port) as line:
        yield line


def talk(page, line):
    page.goto(line.url("/"))
    page.get_by_role("button", name="Start talking").click()
    expect(page.get_by_role("status")).to_have_text(LISTENING)


def test_who_ends_a_broken_call_gives_the_place_back(page, line, model):
    talk(page, line)
    line.cut()
    expect(page.locator("#title")).to_have_text("The line is broken")
    page.get_by_role("button", name="End the call").click()
    expect(page.locator("#title")).to_have_text("The conversation is over")
    assert not model.free
    line.mend()
    until(lambda: model.free)


def test_an_attempt_that_hangs_leaves_time_for_others(page, line):
    talk(page, line)
    line.swallow()
    expect(page.locator("#title")).to_have_text("The line is broken")
    page.wait_for_event("websocket", lambda call: "resume=" in call.url)
    line.mend()
    expect(page.get_by_role("status")).to_have_text(LISTENING)


def test_the_muted_are_told_too(page, line):
    talk(page, line)
    page.keyboard.press("m")
    expect(page.locator("#title")).to_have_text("You are muted")
    line.cut()
    expect(page.locator("#title")).to_have_text("The line is broken")
    expect(page.get_by_role("status")).to_have_text(re.compile("The line is broken. Calling again"))
    line.mend()
    expect(page.locator("#title")).to_have_text("You are muted")


def test_a_server_that_opens_and_has_no_place_is_not_stormed(page, model):
    with running(model) as server:
        page.clock.install()
        line = answered(page, server)
        line.send(wire.metadata({"type": "Session", "resume": "a-token", "seconds": 30}))
        attempts = []
        page.route_web_socket(re.compile("/api/chat"), lambda line: attempts.append(line))  # noqa: PLW0108 -- Playwright sets attributes on it
        line.close(code=1001)
        refused = 0
        for _ in range(60):
            page.clock.run_for(100)
            page.wait_for_timeout(30)
            for opened in attempts[refused:]:
                opened.close(code=1013)
                refused += 1
        assert 2 <= len(attempts) < 10


def test_tickets_that_are_out_of_date_are_not_shown(page, model):
    """Who has waited in one server's queue is sent to another with a ticket of now."""
    asked, lines = [], []

    def place(route):
        asked.append(route)
        places = [{"url": server.url(""), "ticket": f"{len(asked)}-{number}"} for number in range(2)]
        route.fulfill(json={"places": places, "seconds": 60})

    def answer(line):
        line.on_message(lambda message: line.send(wire.ping()) if message == wire.ping() else None)
        lines.append(line)

    page.route_web_socket(re.compile("/api/chat"), answer)
    page.route("**/api/info", lambda route: route.fulfill(json=INFO))
    page.route("**/api/place", place)
    with running(model) as server:
        page.clock.install()
        page.goto(server.url("/"))
        page.get_by_role("button", name="Start talking").click()
        expect(page.get_by_role("status")).to_have_text("Connecting. Waiting for the server.")
        until(lambda: page.wait_for_timeout(10) or lines)
        lines[0].send(wire.metadata({"type": "Queued", "position": 2}))
        expect(page.get_by_role("status")).to_have_text(re.compile("number 2"))
        for _ in range(61):
            page.clock.run_for(1000)
        lines[0].close(code=1013)
        until(lambda: page.wait_for_timeout(10) or len(lines) == 2)
    assert ["ticket=1-0" in lines[0].url, "ticket=2-0" in lines[1].url] == [True, True]
