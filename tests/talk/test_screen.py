"""The screen and its keys, by textual's pilot."""

import anyio
import pytest
from talk_support import Headset, call_on, stats

from duplex import AudioDevice
from duplex.talk.screen import TalkScreen, show_screen
from duplex.testing import fake_model

pytestmark = pytest.mark.anyio
DEVICES = [
    AudioDevice(index=0, name="built in", inputs=1, outputs=2, sample_rate=48000.0),
    AudioDevice(index=3, name="headset [bold]\x1b[31m", inputs=1, outputs=0, sample_rate=16000.0),
]


@pytest.fixture
def anyio_backend():
    return "asyncio"  # textual's


@pytest.fixture
def model():
    with fake_model() as model:
        yield model


def text_of(app):
    """What the screen shows, line by line."""
    return "\n".join("".join(segment.text for segment in strip) for strip in app.screen._compositor.render_strips())


class Shown:
    """A call on a screen of a size, with its pilot."""

    def __init__(self, call, size=(80, 24)):
        self.call = call
        self.app = TalkScreen(call, hints=["What is the capital of France?"], devices=lambda: DEVICES)
        self.size = size

    async def __aenter__(self):
        self._test = self.app.run_test(size=self.size)
        self.pilot = await self._test.__aenter__()
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self.call.run)
        return self

    async def __aexit__(self, *_):
        self.call.quit()
        await self._tasks.__aexit__(None, None, None)
        await self._test.__aexit__(None, None, None)

    async def until(self, condition):
        with anyio.fail_after(20):
            while not condition():
                await self.pilot.pause(0.05)

    async def until_shown(self, text):
        await self.until(lambda: text in text_of(self.app))


@pytest.mark.parametrize("width", [40, 80, 200])
async def test_what_is_shown(model, tmp_path, width):
    async with Shown(call_on(model, tmp_path, Headset()), (width, 24)) as shown:
        await shown.until_shown("What is the capital of France?")
        await shown.until_shown("agent w")
        shown.app.show()
        await shown.pilot.pause()
        text = text_of(shown.app)
        for part in ("fake", "you", "agent", "mic [", "out [", "a headset", "reply", "delay", "lost", "echo", "31 dB"):
            assert part in text
        for key in ("m mute", "d devices", "r record", "q quit"):
            assert key in text


async def test_m_mutes(model, tmp_path):
    microphone = Headset()
    async with Shown(call_on(model, tmp_path, microphone)) as shown:
        await shown.pilot.press("m")
        await shown.until_shown("MUTED")
        assert microphone.muted
        await shown.pilot.press("m")
        assert not microphone.muted


async def test_r_records_from_here_to_the_next_r(model, tmp_path):
    call = call_on(model, tmp_path, Headset())
    async with Shown(call) as shown:
        await shown.until(lambda: call.state.at > 0.5)
        await shown.pilot.press("r")
        await shown.until_shown("RECORDING")
        began = call.state.at
        await shown.until(lambda: call.state.at > began + 1)
        await shown.pilot.press("r")
        await shown.until(lambda: call.recorder.finished)
    (folder,) = call.recorder.finished
    assert {"agent.wav", "dialogue.wav", "run.json", "tokens.safetensors"} <= {path.name for path in folder.iterdir()}
    assert (folder / "events.jsonl").read_text().startswith('{"type": "SessionStarted"')


async def test_d_chooses_a_device(model, tmp_path):
    made = []

    def make(*devices):
        made.append(devices)
        return Headset()

    async with Shown(call_on(model, tmp_path, None, make=make)) as shown:
        await shown.until(lambda: shown.call.state.at > 0)
        await shown.pilot.press("d")
        await shown.until_shown("microphone 3: headset [bold]")
        await shown.pilot.press("down", "down", "enter")
        await shown.until(lambda: len(made) > 1)
        at = shown.call.state.at
        await shown.until(lambda: shown.call.state.at > at)
    assert made == [(None, None), (3, None)]


@pytest.mark.parametrize(
    ("values", "told"),
    [({"silent_seconds": 1.0}, "SILENT"), ({"clipped": True}, "CLIPPED"), ({"input_device": ""}, "no device")],
)
async def test_what_is_wrong_with_the_microphone_is_shown(model, tmp_path, values, told):
    microphone = Headset()
    async with Shown(call_on(model, tmp_path, microphone)) as shown:
        microphone.stats = stats(**values)
        await shown.until_shown(told)


async def test_the_last_notices_are_shown_without_what_moves_a_cursor(model, tmp_path):
    call = call_on(model, tmp_path, Headset())
    async with Shown(call) as shown:
        call.notice("\x1b[2Jthe headset is gone")
        await shown.until_shown("\N{REPLACEMENT CHARACTER}[2Jthe headset is gone")


async def test_q_ends_it(model, tmp_path):
    call = call_on(model, tmp_path, Headset())

    async def press(pilot):
        await pilot.press("q")

    with anyio.fail_after(20):
        assert await show_screen(call, hints=(), devices=list, record=False, headless=True, auto_pilot=press) == 0
    assert call.error is None
