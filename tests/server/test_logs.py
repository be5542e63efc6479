"""Logs of a server: whoever calls, and however often, they stay readable."""

import io
import json
import logging

import pytest

from duplex.server import logs


@pytest.fixture
def written(monkeypatch):
    """Configure logging as the command does; return what is written."""
    monkeypatch.setattr("sys.stderr", io.StringIO())
    root, uvicorn = logging.getLogger(), logging.getLogger("uvicorn")
    before = root.handlers[:], root.level, uvicorn.level
    logs.configure_logging("json")
    yield lambda: [json.loads(line) for line in root.handlers[0].stream.getvalue().splitlines()]
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    uvicorn.setLevel(before[2])


def say(lineno, at, message="call ended", **more):
    record = logging.makeLogRecord(
        {"name": "test", "levelno": logging.INFO, "levelname": "INFO", "msg": message, "pathname": "call.py", **more}
    )
    record.lineno, record.created = lineno, at
    logging.getLogger().handle(record)


def test_one_place_cannot_fill_the_log(written):
    for count in range(10_000):
        say(1, 1000.0, f"what somebody sent: {count}")
    say(2, 1000.0, "something else", **logs.fields(seconds=3))
    assert len(written()) == logs.BURST_LINES + 1
    assert written()[-1]["message"] == "something else"
    assert written()[-1]["seconds"] == 3


def test_what_was_left_out_is_told(written):
    for _ in range(logs.BURST_LINES + 30):
        say(1, 1000.0)
    say(1, 1001.0, **logs.fields(reason="full"))
    say(1, 1001.0)
    *_, later, last = written()
    assert (later["left_out"], later["reason"]) == (30, "full")
    assert "left_out" not in last


def test_a_busy_server_leaves_nothing_out(written):
    for count in range(3000):
        say(1, 1000.0 + count / logs.LINES_PER_SECOND)
    assert len(written()) == 3000
    assert all("left_out" not in line for line in written())
