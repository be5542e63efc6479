"""Logs for people, or one JSON object a line for machines. What users say, and secrets, are in neither."""

import json
import logging
import sys
import threading
import time
from collections import Counter
from types import TracebackType
from typing import Literal

from duplex.server.pace import LeakyBucket

__all__ = ["LogFormat", "LogLimit", "configure_logging", "configured_format", "fields"]

LogFormat = Literal["text", "json"]
_FIELDS = "fields"
log: logging.Logger = logging.getLogger(__name__)
BURST_LINES = 200
"""From one place of the program at once."""
LINES_PER_SECOND = 10.0
"""From one place of the program, for long."""


class LogLimit(logging.Filter):
    """Leaves out what one place of the program logs too often, whoever makes it do so; the next line tells how often.

    What is counted is a line of source code, of which there are so many and no more, whatever is in the messages.
    """

    def __init__(self) -> None:
        super().__init__()
        self._buckets: dict[tuple[str, int], LeakyBucket] = {}
        self._left_out: Counter[tuple[str, int]] = Counter()
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record is written."""
        place, now = (record.pathname, record.lineno), record.created
        with self._lock:
            bucket = self._buckets.setdefault(place, LeakyBucket(now, BURST_LINES, LINES_PER_SECOND))
            if not bucket.pour(1, now):
                self._left_out[place] += 1
                return False
            left_out = self._left_out.pop(place, 0)
        if left_out:
            setattr(record, _FIELDS, {**_told(record), "left_out": left_out})
        return True


def configure_logging(log_format: LogFormat, *, verbose: bool = False) -> None:
    """Send logs to standard error; warnings of Python, and errors that nobody has caught, are lines of it, too."""
    handler = logging.StreamHandler()
    handler.addFilter(LogLimit())
    handler.setFormatter(_Json() if log_format == "json" else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    # What uvicorn tells of connections that open and close is noise, and has addresses in it.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda uncaught: _log_uncaught(
        uncaught.exc_type, uncaught.exc_value or uncaught.exc_type(), uncaught.exc_traceback
    )


def configured_format() -> LogFormat | None:
    """Return what :func:`configure_logging` was given in this process, ``None`` if its logs go somewhere else."""
    formatters = [handler.formatter for handler in logging.getLogger().handlers]
    if any(isinstance(each, _Json) for each in formatters):
        return "json"
    return "text" if any(isinstance(each, _Text) for each in formatters) else None


def _log_uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    log.critical("an error that nobody has caught", exc_info=(kind, error, traceback))


def fields(**values: object) -> dict[str, object]:
    """Return what a log record carries besides its message: ``log.info("...", extra=fields(seconds=3))``."""
    return {_FIELDS: values}


class _Text(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        told = " ".join(f"{name}={value}" for name, value in _told(record).items())
        return f"{super().format(record)} {told}".rstrip()


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "time": f"{moment}.{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **_told(record),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def _told(record: logging.LogRecord) -> dict[str, object]:
    told: dict[str, object] = getattr(record, _FIELDS, {})
    return told
