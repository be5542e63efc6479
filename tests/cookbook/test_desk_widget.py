"""The desk widget of examples/cookbook, in a window of a display that is made for it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("tkinter")
COOKBOOK = Path(__file__).parents[2] / "examples" / "cookbook"
DRIVER = """
import json, sys, time
import duplex
sys.path.insert(0, sys.argv[1])
import desk_widget

with duplex.load("tiny") as model:
    widget = desk_widget.Widget(model, sys.argv[2])
    seen = set()
    widget.button.invoke()
    assert widget.button["text"] == "It listens"
    deadline = time.monotonic() + 240
    while widget.button["text"] == "It listens" and time.monotonic() < deadline:
        widget.update()
        seen |= {f"{name} {lamp['bg']}" for name, lamp in widget.lamps.items()}
        time.sleep(0.005)
    shown = {"words": widget.words["text"], "button": widget.button["text"], "lamp": widget.lamps["you"]["bg"]}
    print(json.dumps({**shown, "seen": sorted(seen)}))
"""


@pytest.fixture
def display(monkeypatch):
    """Return the name of a display nobody sees."""
    if shutil.which("Xvfb") is None:
        pytest.skip("Xvfb is not here")
    reading, writing = os.pipe()
    command = [shutil.which("Xvfb"), "-displayfd", str(writing), "-screen", "0", "640x480x24", "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL)
    os.close(writing)
    with os.fdopen(reading) as told:
        monkeypatch.setenv("DISPLAY", f":{told.readline().strip()}")
    yield
    server.terminate()
    server.wait()


def drive(question):
    """Press the button; return what the window showed at the end, and the colours of its lamps meanwhile.

    In a process of its own: Tk ends the process when its display goes.
    """
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, COOKBOOK, question], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.usefixtures("display")
def test_it_shows_who_speaks_and_what_is_said():
    shown = drive(COOKBOOK.parent / "question.wav")
    assert shown["words"].strip() == "The capital of France is Paris."
    assert shown["button"] == "Talk again"
    assert {"you #2a5db0", "agent #b34a1f"} <= set(shown["seen"])
    assert shown["lamp"] == "#666666"


@pytest.mark.usefixtures("display")
def test_it_tells_what_is_wrong(tmp_path):
    shown = drive(tmp_path / "missing.wav")
    assert "missing.wav" in shown["words"]
    assert shown["button"] == "Talk"
