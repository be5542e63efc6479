"""What the tests of process share."""

import pytest

import duplex
from cli_support import SMALL


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@pytest.fixture(scope="module")
def model():
    with duplex.load(SMALL, sessions=2, deterministic=True) as loaded:
        yield loaded


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
