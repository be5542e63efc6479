"""What is wrong with ``duplex serve --ray`` is one line, before anything is downloaded or loaded."""

import socket
import subprocess
import sys

import pytest

from cli_support import run
from duplex.cluster import connection
from duplex.cluster.serving import Replicas
from duplex.cluster.serving.assignment import Assignment
from duplex.errors import UsageError
from duplex.server import Listening, Settings

BLOCKED = "import sys; sys.modules['ray'] = None; from duplex.cli import main; main(sys.argv[1:])"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--replicas", "2:2"), "give --ray"),
        (("--worker-cpus", "2"), "give --ray"),
        (("--ray", "local", "--replicas", "3:2"), "such as 2:8"),
        (("--ray", "local", "--replicas", "0:2"), "such as 2:8"),
        (("--ray", "local", "--replicas", "2:"), "such as 2:8"),
        (("--ray", "local", "--replicas", "many"), "such as 2:8"),
        (("--ray", "local", "--replicas", "2:9999999"), "such as 2:8"),
        (("--ray", "somewhere"), "no address of a Ray cluster"),
        (("--ray", "local", "--move-to", "http://other"), "calls move to the other replicas"),
        (("--ray", "local", "--host", "0.0.0.0", "--insecure"), "leave --host out"),  # noqa: S104
    ],
)
def test_wrong_use_is_told(given, told):
    done = run("serve", *given)
    assert done.status == 2
    assert told in done.err


def test_without_ray_the_extra_is_named():
    command = [sys.executable, "-c", BLOCKED, "serve", "--ray", "local"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert "needs ray; install it with" in done.stderr
    assert "[ray]" in done.stderr


def test_where_nothing_listens_it_is_told_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = run("serve", "--port", "0", "--ray", f"127.0.0.1:{port}")
    assert done.status == 1
    assert f"nothing answers at 127.0.0.1:{port}" in done.err


@pytest.mark.parametrize(("least", "most"), [(0, 1), (2, 1), (-1, -1)])
def test_replicas_are_one_or_more(least, most):
    with pytest.raises(UsageError, match="2:8"):
        Replicas(least=least, most=most)


def test_a_replica_listens_where_its_callers_can_reach_it():
    settings = Settings(origins=("https://talk.example.org",), session_limit=600)
    here = Assignment(loading=None, settings=settings, listening=Listening(port=8998), origins=("http://[::1]:8998",))
    rules, where = here.at("10.0.0.5")
    assert (where.host, where.port, where.drain) == ("127.0.0.1", 0, 600)
    assert rules.origins == ("https://talk.example.org", "http://[::1]:8998")
    assert "127.0.0.1" in rules.names
    assert "10.0.0.5" not in rules.names
    there = Assignment(loading=None, settings=settings, listening=Listening(host="0.0.0.0"))  # noqa: S104
    rules, where = there.at("10.0.0.5")
    assert (where.host, rules.hosts) == ("10.0.0.5", ("*",))
    named = Settings(hosts=("talk.example.org",))
    rules, _ = Assignment(loading=None, settings=named, listening=Listening(host="0.0.0.0")).at("10.0.0.5")  # noqa: S104
    assert rules.hosts == ("talk.example.org", "10.0.0.5")
    assert Assignment(loading=None, settings=named, listening=Listening()).grace == 6 * 3600


class SlowRay:
    """Ray on a machine that is too busy for so many starts."""

    def __init__(self, failures):
        self.starts, self.failures = 0, failures

    def init(self, **_):
        self.starts += 1
        if self.starts <= self.failures:
            raise Exception("timed out")  # noqa: TRY002 -- as Ray does

    def shutdown(self):
        pass


def test_a_cluster_of_this_machine_that_is_slow_is_started_again():
    connection._start(slow := SlowRay(2), "local", verbose=False)
    assert slow.starts == 3
    with pytest.raises(Exception, match="timed out"):
        connection._start(slow := SlowRay(9), "local", verbose=False)
    assert slow.starts == connection.ATTEMPTS
    with pytest.raises(Exception, match="timed out"):
        connection._start(slow := SlowRay(9), "auto", verbose=False)
    assert slow.starts == 1
