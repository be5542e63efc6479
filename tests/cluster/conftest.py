"""A Ray cluster for the slow tests, one a session."""

import subprocess
import sys
from subprocess import DEVNULL, PIPE

import pytest
from batch_support import SURROUNDINGS

HEAD = """
import ray, sys
context = ray.init(
    "local",  # not one that happens to be there
    num_cpus=4,
    _node_ip_address="127.0.0.1",
    include_dashboard=False,
    object_store_memory=200_000_000,
)
print(context.address_info["address"], flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="session")
def cluster():
    """The address of a cluster on the loopback address, whose processes import what these tests do."""
    command = [sys.executable, "-c", HEAD]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, text=True, env=SURROUNDINGS) as head:
        yield head.stdout.readline().strip()
        head.stdin.close()
        head.wait(timeout=60)
