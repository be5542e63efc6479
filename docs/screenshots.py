"""Take the pictures of the page in docs/images: python docs/screenshots.py (needs the group `test`, and Chromium)."""

import queue
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from anyio.from_thread import start_blocking_portal
from playwright.sync_api import Browser, Page, sync_playwright

import duplex
from duplex.server import Listening, Settings, serve

DOCS = Path(__file__).parent
IMAGES = DOCS / "images"
RECORDING = DOCS.parent / "examples" / "conversation.wav"
ASK = "--use-fake-ui-for-media-stream"
REFUSE = "--deny-permission-prompts"
DESK, PHONE = {"width": 900, "height": 720}, {"width": 390, "height": 780}


@contextmanager
def running(settings: Settings) -> Iterator[str]:
    """Serve the built-in model; yield the address."""
    ports: queue.Queue[int] = queue.Queue()
    with duplex.load("tiny") as model, start_blocking_portal("asyncio") as portal:
        server = portal.start_task_soon(lambda: serve(model, settings, Listening(port=0), started=ports.put))
        yield f"http://127.0.0.1:{ports.get(timeout=30)}/"
        server.cancel()


@contextmanager
def browser(microphone: str, **options: Any) -> Iterator[Page]:
    """Open a page in a browser whose microphone plays a recording, or is refused."""
    fake = ("--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={RECORDING}%noloop")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", microphone, *fake]
        )
        yield started.new_page(**options)
        started.close()


def talk(page: Page, url: str, seconds: float) -> None:
    """Press the button, and wait."""
    page.goto(url)
    page.get_by_role("button", name="Talk").click()
    page.wait_for_timeout(1000 * seconds)


def main() -> None:
    """Take them all."""
    with running(Settings()) as url:
        with browser(ASK, viewport=DESK) as page:
            talk(page, url, 22)
            page.screenshot(path=IMAGES / "page.png")
        with browser(ASK, viewport=PHONE, color_scheme="dark", device_scale_factor=2) as page:
            talk(page, url, 22)
            page.screenshot(path=IMAGES / "page-phone.png")
        with browser(REFUSE, viewport=DESK) as page:
            talk(page, url, 1)
            page.screenshot(path=IMAGES / "page-refused.png")
        # One place only: who comes second waits.
        with browser(ASK, viewport=DESK) as first, browser_beside(first, url) as page:
            page.screenshot(path=IMAGES / "page-queue.png")


@contextmanager
def browser_beside(first: Page, url: str) -> Iterator[Page]:
    """Talk in one page, and wait for a place in another."""
    talk(first, url, 1)
    page = cast("Browser", first.context.browser).new_page(viewport=DESK)
    talk(page, url, 1)
    yield page


if __name__ == "__main__":
    main()
