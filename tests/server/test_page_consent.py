"""The page asks before a call that is recorded."""

import json

import pytest
from axe_playwright_python.sync_playwright import Axe
from page_support import CHROMIUM, LISTENING, page, playwright  # noqa: F401 -- fixtures

from duplex.server import Settings
from duplex.server.recordings import recordings_in
from duplex.testing import fake_model
from server_support import running, until

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
expect = pytest.importorskip("playwright.sync_api").expect


@pytest.fixture
def model():
    with fake_model(capacity=2) as made:
        yield made


def press(page, name):
    page.get_by_role("button", name=name).click()


def test_who_agrees_is_recorded(page, model, tmp_path):
    with running(model, Settings(record=tmp_path)) as server:
        page.goto(server.url("/"))
        press(page, "Start talking")
        expect(page.get_by_role("dialog")).to_be_visible()
        expect(page.get_by_role("button", name="Talk without a recording")).to_be_hidden()
        assert not model.sessions - model.free, "nothing begins before the answer"
        press(page, "Agree and talk")
        expect(page.get_by_role("status")).to_have_text(LISTENING, timeout=20_000)
        press(page, "End the call")
        until(lambda: recordings_in(tmp_path) and recordings_in(tmp_path)[0].ended)
    (each,) = recordings_in(tmp_path)
    assert json.loads((each.path / "call.json").read_text())["consent"] == "agreed"
    assert page.complaints == []


@pytest.mark.parametrize("how", ["the button", "Escape"])
def test_who_does_not_agree_has_no_call_and_is_asked_again(page, model, tmp_path, how):
    with running(model, Settings(record=tmp_path)) as server:
        page.goto(server.url("/"))
        press(page, "Start talking")
        page.keyboard.press("Escape") if how == "Escape" else press(page, "Do not call")
        expect(page.get_by_role("dialog")).to_be_hidden()
        expect(page.get_by_role("button", name="Start talking")).to_be_visible()
        press(page, "Start talking")
        expect(page.get_by_role("dialog")).to_be_visible()
    assert recordings_in(tmp_path) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_question_shuts_nobody_out(page, model, tmp_path, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 360, "height": 740})
    with running(model, Settings(record=tmp_path, record_with_consent=True)) as server:
        page.goto(server.url("/"))
        press(page, "Start talking")
        expect(page.get_by_role("dialog").get_by_role("button")).to_have_count(3)
        assert Axe().run(page).response["violations"] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_who_refuses_talks_without_a_recording_where_that_may_be(page, model, tmp_path):
    with running(model, Settings(record=tmp_path, record_with_consent=True)) as server:
        page.goto(server.url("/"))
        expect(page.locator("#recorded")).to_have_text("This server records the conversations of those who agree.")
        press(page, "Start talking")
        press(page, "Talk without a recording")
        expect(page.get_by_role("status")).to_have_text(LISTENING, timeout=20_000)
        press(page, "End the call")
    assert recordings_in(tmp_path) == []


@pytest.mark.parametrize("how", ["a double click", "the key twice"])
def test_what_was_not_read_is_not_agreed_to(page, model, tmp_path, how):
    """The answer lies where the button was that began the call, and the second click of two falls on it."""
    page.set_viewport_size({"width": 1280, "height": 720})
    calls = []
    page.on("websocket", lambda call: calls.append(call))  # noqa: PLW0108 -- Playwright sets attributes on it
    with running(model, Settings(record=tmp_path)) as server:
        page.goto(server.url("/"))
        button = page.get_by_role("button", name="Start talking")
        expect(page.locator("#recorded")).to_be_visible()
        if how == "a double click":
            button.dblclick()
        else:
            button.focus()
            page.keyboard.press("Enter")
            page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Agree and talk")).to_be_enabled()
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog")).to_be_visible()
        assert calls == []
        press(page, "Agree and talk")
        expect(page.get_by_role("status")).to_have_text(LISTENING, timeout=20_000)


def test_who_was_not_asked_has_not_agreed(page, model, tmp_path):
    """A page that was loaded before the server recorded does not know of it."""
    with running(model, Settings(record=tmp_path)) as server:
        page.route("**/api/info", lambda route: route.fulfill(json=route.fetch().json() | {"recorded": False}))
        page.goto(server.url("/"))
        press(page, "Start talking")
        expect(page.get_by_role("alert")).to_contain_text("Reload the page")
    assert recordings_in(tmp_path) == []


def test_a_server_that_records_nothing_asks_nothing(page, model):
    with running(model) as server:
        page.goto(server.url("/"))
        press(page, "Start talking")
        expect(page.get_by_role("status")).to_have_text(LISTENING, timeout=20_000)
        expect(page.get_by_role("dialog")).to_be_hidden()
