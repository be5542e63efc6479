"""The recording on the first page of the documents, in a real browser, as mkdocs builds it."""

import functools
import shutil
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config

pytest.importorskip("playwright", reason="the group `test` is not installed")
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PLAYER = ".duplex-conversation"
WATCH = """
window.lit = [];
new MutationObserver((changes) => changes.forEach(({ target }) => {
  if (target.classList.contains("said") && lit.at(-1) !== target.textContent) lit.push(target.textContent);
})).observe(document.querySelector(".duplex-conversation ol"), { subtree: true, attributeFilter: ["class"] });
"""
"""Keeps the words that are lit, in ``lit``."""


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and logs nothing; without ranges, as simple servers are."""

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build the first page alone, by the theme of all of them; return its folder."""
    sources, site = tmp_path_factory.mktemp("docs"), tmp_path_factory.mktemp("site")
    shutil.copy(ROOT / "docs" / "index.md", sources)
    shutil.copytree(ROOT / "docs" / "conversation", sources / "conversation")
    shutil.copytree(ROOT / "docs" / "images", sources / "images")
    chosen = {"docs_dir": str(sources), "site_dir": str(site), "strict": False, "nav": None, "plugins": []}
    build(load_config(str(ROOT / "mkdocs.yml"), **chosen))
    return site


@pytest.fixture(scope="module")
def address(site):
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def page():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.complaints = []
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        yield page
        assert page.complaints == []
        browser.close()


def now(page):
    return page.evaluate("document.querySelector('audio').currentTime")


def progress(page):
    """Return how far the lanes are lit, of 1."""
    return page.evaluate("document.querySelector('#duplex-heard rect').width.baseVal.value / 776")


def seek(page, seconds):
    page.evaluate("seconds => { document.querySelector('audio').currentTime = seconds }", seconds)


@pytest.mark.parametrize("opened_as", ["page", "file"])
def test_it_plays_with_its_lanes_and_its_words(page, site, address, opened_as):
    page.goto(address if opened_as == "page" else (site / "index.html").as_uri())
    player = page.locator(PLAYER)
    expect(player.get_by_role("listitem")).to_have_count(16)
    expect(player.locator("path")).to_have_count(4)
    kept = "src => document.querySelector('audio').currentSrc.startsWith(src)"
    page.wait_for_function(kept, arg="blob:" if opened_as == "page" else "file:")
    page.wait_for_function("document.querySelector('audio').readyState > 1")
    assert page.evaluate("document.querySelector('audio').duration") == pytest.approx(31.04, abs=0.2)
    page.evaluate(WATCH)
    player.get_by_role("button", name="From 0:22").click()
    page.wait_for_function("lit.at(-1) === 'Anna.'")
    assert page.evaluate("lit") == ["Your", "name", "is", "Anna."]
    assert 22.9 < now(page) < 24
    page.evaluate("document.querySelector('audio').pause()")
    assert progress(page) == pytest.approx(now(page) / 31.04, abs=0.01)


def test_both_speak_at_once_where_they_did(page, site):
    page.goto((site / "index.html").as_uri())
    page.wait_for_function("document.querySelector('audio').readyState > 1")
    seek(page, 15.7)  # the user cuts in
    expect(page.locator(f"{PLAYER} .user .said")).to_have_text("What")
    expect(page.locator(f"{PLAYER} .agent .said")).to_have_text("sad?")
    seek(page, 12.0)
    expect(page.locator(f"{PLAYER} .said")).to_have_count(0)


def test_words_and_lanes_go_where_they_are_clicked(page, site):
    page.goto((site / "index.html").as_uri())
    page.wait_for_function("document.querySelector('audio').readyState > 1")
    page.locator(".word", has_text="Tokyo.").click()
    assert now(page) == pytest.approx(19.28, abs=0.01)
    expect(page.locator(f"{PLAYER} .said")).to_have_text("Tokyo.")
    box = page.locator(f"{PLAYER} svg").bounding_box()
    page.locator(f"{PLAYER} svg").click(position={"x": box["width"] / 2, "y": 20})
    assert now(page) == pytest.approx(31.04 / 2, abs=0.1)
    assert page.locator(f"{PLAYER} img").count() == 0, "the picture is for who runs no scripts"


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 1200), ("light", 360)])
def test_it_is_for_everybody(page, site, scheme, width):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    page.goto((site / "index.html").as_uri())
    page.wait_for_function("document.querySelector('audio').readyState > 1")
    seek(page, 15.7)
    expect(page.locator(f"{PLAYER} .said")).to_have_count(2)
    found = Axe().run(page, context=PLAYER).response["violations"]
    assert found == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
