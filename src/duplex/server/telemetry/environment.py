"""What OpenTelemetry's environment variables ask for; nothing of OpenTelemetry is imported to read them."""

import logging
import os
from importlib.util import find_spec
from typing import TYPE_CHECKING

from duplex.extras import install_command
from duplex.server.telemetry.signals import Signals

if TYPE_CHECKING:
    from duplex.server.telemetry.protocol import Telemetry

__all__ = ["telemetry_of_environment"]

log: logging.Logger = logging.getLogger(__name__)

MODULES = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


def telemetry_of_environment() -> "Telemetry | None":
    """Return what exports what the environment asks for, ``None`` if that is nothing or cannot be; the log says why."""
    signals = Signals.read(os.environ)
    for sentence in signals.refused:
        log.warning("OpenTelemetry: %s", sentence)
    if not signals.names:
        return None
    if not all(_is_there(module) for module in MODULES):
        log.warning(
            "OpenTelemetry is asked for (OTEL_...) and not installed; install it with: %s", install_command("otel")
        )
        return None
    from duplex.server.telemetry.exporting import Exporting  # noqa: PLC0415 -- of the extra otel

    return Exporting(signals)


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package that it is in
        return False
