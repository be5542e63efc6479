"""The web page in a real browser, with a recording as its microphone, on the built-in model."""

import pytest
from page_support import (  # noqa: F401
    CHROMIUM,
    DEVICE,
    EXAMPLES,
    FAKE,
    LISTENING,
    answered,
    channels,
    found_again,
    model,
    opened,
    page,
    playwright,
)
from playwright.sync_api import expect

import duplex
from duplex.server import Settings
from server_support import running

ANSWER = "The capital of France is Paris."


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("browser", ["new", "old"])
def test_the_answer_is_on_the_page_and_in_the_recording(page, tmp_path, browser):
    """So it is in a browser without codecs, on a device whose rate is not the page's."""
    if browser == "old":
        page.add_init_script("delete window.AudioEncoder; window.deviceRate = 44100; " + DEVICE)
    with duplex.load("tiny") as tiny, running(tiny, Settings(record=tmp_path / "calls")) as server:
        page.goto(server.url("/"))
        page.get_by_role("button", name="Start talking").click()
        page.get_by_role("button", name="Agree and talk").click()
        expect(page.get_by_role("log")).to_contain_text(ANSWER, timeout=20_000)
        expect(page.locator("#agent-speaks")).to_have_text("listening", timeout=10_000)
        assert page.locator("#talking-to").inner_text() == "tiny"
        page.get_by_role("button", name="End the call").click()
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
        expect(page.get_by_role("button", name="Start talking")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.get_by_role("status")).to_have_text(LISTENING)
        expect(page.get_by_role("button", name="End the call")).to_be_focused()
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
        page.get_by_role("button", name="End the call").press("Space")
        expect(page.get_by_role("status")).to_have_text("The conversation is over.")
        expect(page.get_by_role("button", name="Start talking")).to_be_focused()
        expect(mute).to_be_hidden()
        page.keyboard.press("m")
        page.keyboard.press("Escape")
        expect(page.get_by_role("status")).to_have_text("The conversation is over.")


def test_who_ends_the_call_keeps_their_place(page, model):
    """What had the focus may be gone with the call; the focus is then on what begins the next one."""
    with running(model) as server:
        answered(page, server)
        page.keyboard.press("Tab")
        expect(page.get_by_role("button", name="Mute")).to_be_focused()
        page.keyboard.press("Escape")
        expect(page.get_by_role("status")).to_have_text("The conversation is over.")
        expect(page.get_by_role("button", name="Start talking")).to_be_focused()


@pytest.mark.parametrize(("motion", "fewest", "most"), [("reduce", 2, 6), ("no-preference", 10, 130)])
def test_motion_that_is_unwelcome(page, model, motion, fewest, most):
    """The time line changes twice a second then, not with every frame."""
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
        page.get_by_role("button", name="Start talking").dblclick()
        expect(page.get_by_role("status")).to_have_text(LISTENING)
        page.get_by_role("button", name="End the call").dblclick()
        expect(page.get_by_role("status")).to_have_text("The conversation is over.")
        expect(page.get_by_role("button", name="Start talking")).to_be_enabled()
