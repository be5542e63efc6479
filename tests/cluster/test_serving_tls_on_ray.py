"""``duplex serve --ray --tls``: a certificate that the command makes, from the door to a replica in a real cluster."""

import re

import anyio
import pytest
from ray_support import Command
from tls_support import trusting

import duplex
from cli_support import SMALL
from duplex.events import EndReason
from server_support import tone

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.anyio]
ALICE = "a-token-of-alice"


@pytest.fixture
def anyio_backend():
    """One event loop will do."""
    return "asyncio"


async def test_a_caller_with_a_token_is_placed_and_heard(cluster, tmp_path):
    tokens = tmp_path / "tokens.txt"
    tokens.write_text(f"alice:{ALICE}\n")
    options = ("--replicas", "1:1", "--worker-cpus", "0.5", "--model", SMALL, "--queue", "0", "--token-file", tokens)
    command = await anyio.to_thread.run_sync(lambda: Command(cluster, *options, "--tls", HOME=str(tmp_path)))
    try:
        assert re.search(r"listens at https://127\.0\.0\.1:", command.told)
        trust = trusting(tmp_path / ".config" / "duplex" / "tls" / "certificate.pem")
        with anyio.fail_after(60):
            async with duplex.connect(command.door.url("", "https"), token=ALICE, ssl_context=trust) as conversation:
                events = [event async for event in conversation.run(tone(0.4))]
                assert conversation._runner.line._address.startswith("wss://127.0.0.1:")
        assert events[-1].reason is EndReason.FINISHED
    finally:
        await anyio.to_thread.run_sync(command.stop)
    assert command.process.returncode == 0
