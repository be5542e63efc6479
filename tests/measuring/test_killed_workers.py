"""Measuring whose worker processes are killed while they write: nothing half-written stays."""

import os
import signal
import sys
import time

import anyio
import pytest
from measuring_support import recording

from duplex.atomic import atomic_path
from duplex.errors import OutputError
from duplex.measuring import measure, run
from duplex.measuring.one import target_of

pytestmark = pytest.mark.anyio
PATIENCE = 60


def write_for_ever(source, out, *_, **__):
    with atomic_path(target_of(source, out)) as part:
        part.write_text("half of it")
        time.sleep(PATIENCE)


def write_and_die(source, out, *_, **__):
    with atomic_path(target_of(source, out)) as part:
        part.write_text("half of it")
        os.kill(os.getpid(), signal.SIGKILL)


async def test_cancelled(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "measure_to_file", write_for_ever)
    out = tmp_path / "out"
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(measure, [recording(tmp_path / "call.wav")], out)
            while not (out.is_dir() and list(out.glob("*.part"))):  # noqa: ASYNC110 -- another process writes it
                await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
    assert list(out.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
async def test_killed_from_outside(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "measure_to_file", write_and_die)
    out = tmp_path / "out"
    (result,) = await measure([recording(tmp_path / "call.wav")], out)
    assert isinstance(result.error, OutputError)
    assert list(out.iterdir()) == []
