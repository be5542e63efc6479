"""Voice frameworks as callers: the programs of `examples/`, and the frameworks' own clients.

They are heavy, and want other versions of what this project has, so they live in environments of their own. The
environment variables below name an interpreter of each; without one, this interpreter is asked.
"""

import functools
import importlib.util
import os
import subprocess
import sys

import pytest

import duplex
from duplex.server import Settings
from server_support import running

VARIABLES = {"livekit": "DUPLEX_TEST_LIVEKIT", "pipecat": "DUPLEX_TEST_PIPECAT", "fastrtc": "DUPLEX_TEST_FASTRTC"}
MODULES = {"livekit": "livekit.agents", "pipecat": "pipecat", "fastrtc": "fastrtc"}


@pytest.fixture(scope="module")
def frameworks(pytestconfig):
    path = pytestconfig.rootpath / "benchmarks" / "frameworks.py"
    spec = importlib.util.spec_from_file_location("frameworks", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def host():
    with duplex.load("tiny") as model, running(model, Settings(idle_timeout=10.0)) as server:
        yield f"127.0.0.1:{server.port}"


@functools.cache
def interpreter_with(framework):
    """Return an interpreter that has a framework, or skip."""
    variable = VARIABLES[framework]
    found = os.environ.get(variable, sys.executable)
    tried = subprocess.run([found, "-c", f"import {MODULES[framework]}"], capture_output=True, check=False, timeout=120)
    if tried.returncode:
        pytest.skip(f"{MODULES[framework]} is not here; {variable} may name an interpreter that has it")
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("framework", "case", "pause"),
    [
        ("livekit", "livekit_duplex", 0.0),
        ("livekit", "livekit_duplex", 12.0),
        ("livekit", "livekit_interrupt", 0.0),
        ("livekit", "gpt_live", 0.0),
        ("livekit", "gpt_live", 12.0),
        ("livekit", "personaplex", 0.0),
        ("livekit", "personaplex", 12.0),
        ("pipecat", "pipecat_duplex", 0.0),
        ("pipecat", "pipecat_duplex", 12.0),
        ("pipecat", "pipecat_interrupt", 0.0),
        ("pipecat", "pipecat_live", 0.0),
        ("pipecat", "pipecat_live", 12.0),
        ("fastrtc", "fastrtc_handler", 0.0),
    ],
)
def test_a_framework_hears_the_answer(frameworks, host, framework, case, pause):
    """`pause`: the microphone is switched off for longer than the server waits for audio."""
    heard = frameworks.call(framework, interpreter_with(framework), case, host, pause=pause)
    assert frameworks.is_right(case, heard["words"]), heard
    assert not heard.get("errors")
    assert heard["loudest"] > 0.01
