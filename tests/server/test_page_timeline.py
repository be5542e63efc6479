"""The time line: both voices and the words of both, from the first second on, without work for nothing."""

import numpy as np
import pytest
from page_support import (  # noqa: F401
    CHROMIUM,
    FAKE,
    answered,
    model,
    opened,
    page,
    playwright,
)
from playwright.sync_api import expect

from duplex.transports import wire
from server_support import running, tone

SAMPLES = "delete window.AudioEncoder;"
"""A browser without codecs takes samples as they are."""
USER, AGENT = (0x44, 0x53, 0xC5), (0xB3, 0x4A, 0x1F)
PICTURE = """
() => {
  const { width, height } = document.querySelector("#lanes");
  const pixels = document.querySelector("#lanes").getContext("2d").getImageData(0, 0, width, height).data;
  return [width, height, [...pixels]];
}
"""


def pixels_of(page, color):
    """Return where the picture has a color, bool ``[height, width]``; a device's pixel is one of the page's here."""
    width, height, values = page.evaluate(PICTURE)
    picture = np.array(values, np.int16).reshape(height, width, 4)
    return (np.abs(picture[..., :3] - np.array(color)).max(axis=-1) < 8) & (picture[..., 3] > 200)


def told(line, **event):
    line.send(wire.metadata(event))


def say(line, seconds, level=0.2):
    samples = tone(seconds, level)
    for start in range(0, len(samples), 1920):
        line.send(wire.audio((samples[start : start + 1920] * 32767).astype("<i2").tobytes()))


@pytest.fixture
def line(page, model):
    """A call, at a size where a second has its full width from the start."""
    page.add_init_script(SAMPLES)
    page.set_viewport_size({"width": 360, "height": 740})
    with running(model) as server:
        yield answered(page, server)


def test_both_voices_and_the_words_of_both(page, line):
    """The user's are above, the agent's below, words at the outer edges and where they are said."""
    page.wait_for_timeout(500)
    say(line, 0.8)
    told(line, type="AgentText", text=" Paris", at=0.1)
    told(line, type="AgentText", text=".", at=0.18)
    told(line, type="UserText", text="France?", at=0.0, start=0.0, end=0.4)
    page.wait_for_timeout(500)
    page.keyboard.press("Escape")
    user, agent = pixels_of(page, USER), pixels_of(page, AGENT)
    middle = len(user) // 2
    assert user[:middle].any()
    assert not user[middle:].any()
    assert agent[middle:].any()
    assert not agent[:middle].any()
    loud = np.flatnonzero(agent.sum(axis=0) > 20)
    assert loud.min() < 20, "the agent's voice begins with the conversation"
    assert 40 < loud.max() < 80, "and takes 0.8 s of it"
    words = np.flatnonzero(agent[-70:].any(axis=1))
    assert len(words) > 5, "words are below the voice"
    assert np.flatnonzero(user[:75].any(axis=1)).size > 5


@pytest.mark.usefixtures("line")
def test_it_is_full_after_a_few_seconds(page):
    page.wait_for_timeout(2_500)
    page.keyboard.press("Escape")
    drawn = np.flatnonzero(pixels_of(page, USER).any(axis=0))
    assert drawn.max() - drawn.min() > 0.4 * 328


def test_sound_after_a_loss_is_where_its_words_are(page, line):
    say(line, 0.24, level=0.001)
    told(line, type="AgentText", text=" Paris", at=1.2)
    say(line, 0.4)
    page.wait_for_timeout(2_500)
    page.keyboard.press("Escape")
    loud = np.flatnonzero(pixels_of(page, AGENT).sum(axis=0) > 20)
    assert 60 < loud.min() < 110


@pytest.mark.usefixtures("line")
def test_nothing_is_laid_out_for_a_picture(page):
    """Sixty pictures a second cost no style, no layout; only texts that change do."""
    page.wait_for_timeout(1_000)
    devtools = page.context.new_cdp_session(page)
    devtools.send("Performance.enable")

    def counted():
        found = {each["name"]: each["value"] for each in devtools.send("Performance.getMetrics")["metrics"]}
        return np.array([found["LayoutCount"], found["RecalcStyleCount"]])

    before = counted()
    pictures = page.evaluate(
        """
        async () => {
          let pictures = 0;
          const clear = CanvasRenderingContext2D.prototype.clearRect;
          CanvasRenderingContext2D.prototype.clearRect = function (...box) { pictures++; clear.apply(this, box); };
          await new Promise((resolve) => setTimeout(resolve, 3000));
          return pictures;
        }
        """
    )
    assert pictures > 30
    assert (counted() - before).max() < pictures / 2


def test_what_the_user_says_late_stands_where_it_was_said(page, line):
    """Words of two turns come after the second has begun, and after the answer."""
    told(line, type="UserSpeechStarted", at=0.1)
    told(line, type="AgentText", text=" Hello.", at=0.6)
    told(line, type="UserSpeechStarted", at=1.0)
    told(line, type="UserText", text="Hi", at=0.1)
    told(line, type="UserText", text="there.", at=0.3)
    told(line, type="UserText", text="Who", at=1.1)
    told(line, type="AgentText", text=" Tiny.", at=1.4)
    told(line, type="UserText", text="are", at=1.3)
    told(line, type="UserText", text="you?", at=1.4)
    expect(page.get_by_role("log").locator("p")).to_have_text(["Hi there.", "Hello.", "Who are you?", "Tiny."])
