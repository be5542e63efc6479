"""The page in Firefox, whose microphone and loudspeaker are a sound server's."""

import shutil
import subprocess

import pytest
import soxr
from firefox_support import FIREFOX, firefox
from page_support import EXAMPLES, LISTENING, channels, found_again

import duplex
from server_support import PATIENCE, RATE, running, until
from transports.sound_server_support import RATE as DEVICE_RATE
from transports.sound_server_support import SoundServer, missing

pytestmark = [
    pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}"),
    pytest.mark.skipif(FIREFOX is None, reason="needs Firefox (Debian: firefox-esr)"),
]
QUESTION = EXAMPLES / "question.wav"


@pytest.fixture
def sound(tmp_path):
    folder = tmp_path / "sound"
    folder.mkdir()
    server = SoundServer(folder)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def page(tmp_path, sound):
    folder = tmp_path / "firefox"
    folder.mkdir()
    with firefox(folder, sound.environment) as opened:
        yield opened


@pytest.mark.slow
@pytest.mark.alone
def test_a_spoken_question_is_answered(page, sound):
    with duplex.load("tiny") as tiny, running(tiny) as server, sound.recording() as played:
        page.goto(server.url("/"))
        page.click("talk")
        until(lambda: page.text("status") == LISTENING, PATIENCE)
        subprocess.run(
            [shutil.which("paplay"), "--device=room", QUESTION], env=sound.environment, check=True, timeout=PATIENCE
        )
        until(lambda: "The capital of France is Paris." in page.text("words"), PATIENCE)
        until(lambda: page.text("agent-speaks") == "listening", PATIENCE)
        page.click("talk")
        until(lambda: page.text("status") == "The conversation is over.", PATIENCE)
        page.click("save")
        until(lambda: list(page.downloads.glob("*.wav")), PATIENCE)
        assert page.complaints == []
    (saved,) = page.downloads.glob("*.wav")
    user, agent = channels(saved)
    assert found_again(channels(QUESTION)[0], user) > 0.5, "neither faster nor slower than it was"
    assert found_again(agent, soxr.resample(played[0], DEVICE_RATE, RATE)) > 0.5, "it was heard, too"
