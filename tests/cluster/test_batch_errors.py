"""What is wrong with a cluster is one line, before anything is downloaded or loaded."""

import os
import socket
import subprocess
import sys

import pytest
from batch_support import wav_bytes

from cli_support import COMMAND

BLOCKED = "import sys; sys.modules['ray'] = None; from duplex.cli import main; main(sys.argv[1:])"


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(wav_bytes(0))
    return path


def only_error(command, status, **more):
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **more)
    assert done.returncode == status, done.stderr
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.parametrize("command", ["process", "measure", "score"])
def test_without_ray_the_extra_is_named(recording, command):
    line = only_error([sys.executable, "-c", BLOCKED, command, str(recording), "--ray", "local"], 1)
    assert "needs ray; install it with" in line
    assert "[ray]" in line


def test_a_ray_that_is_too_old_is_told_with_the_lowest(recording, tmp_path):
    old = tmp_path / "site" / "ray-2.9.3.dist-info"
    old.mkdir(parents=True)
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: ray\nVersion: 2.9.3\n")
    paths = os.pathsep.join(filter(None, [str(old.parent), os.environ.get("PYTHONPATH")]))
    line = only_error([*COMMAND, "process", recording, "--ray", "local"], 1, env={**os.environ, "PYTHONPATH": paths})
    assert "needs ray 2.54 or newer, and 2.9.3 is installed" in line


def test_where_nothing_listens_it_is_told_at_once(recording):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = only_error([*COMMAND, "process", recording, "--ray", f"127.0.0.1:{port}"], 1)
    assert f"nothing answers at 127.0.0.1:{port}" in line


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--ray", "somewhere"), "no address of a Ray cluster"),
        (("--ray", "host:99999"), "no address of a Ray cluster"),
        (("--ray", "ray://head:10001"), "ray job submit"),
        (("--workers", "2"), "give --ray"),
        (("--worker-cpus", "2"), "give --ray"),
        (("--ray", "local", "--workers", "0"), "--workers"),
        (("--ray", "local", "--ray-wait", "-1"), "--ray-wait"),
    ],
)
def test_wrong_use_is_told(recording, given, told):
    assert told in only_error([*COMMAND, "process", recording, *given], 2)


def test_measure_refuses_what_is_for_this_machine_alone(recording):
    assert "--workers" in only_error([*COMMAND, "measure", recording, "--ray", "local", "--jobs", "2"], 2)
