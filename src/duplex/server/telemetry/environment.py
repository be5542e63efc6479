"""What OpenTelemetry's environment variables ask for; nothing of OpenTelemetry is imported to read them."""

import logging
import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

import attrs

from duplex.extras import install_command
from duplex.parsing import LONGEST_NUMBER

if TYPE_CHECKING:
    from duplex.server.telemetry.protocol import Telemetry

__all__ = ["Signals", "telemetry_of_environment"]

log: logging.Logger = logging.getLogger(__name__)

_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"
SPOKEN = "http/protobuf"
DEFAULT_MILLISECONDS = 60_000
MODULES = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


@attrs.frozen(kw_only=True)
class Signals:
    """What is exported."""

    traces: bool
    metrics: bool
    metric_seconds: float = DEFAULT_MILLISECONDS / 1000
    """Between two exports of metrics."""
    refused: tuple[str, ...] = ()
    """What is asked for and cannot be done, a sentence each."""

    @property
    def names(self) -> tuple[str, ...]:
        """The signals by name."""
        return tuple(name for name, wanted in (("traces", self.traces), ("metrics", self.metrics)) if wanted)

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> "Signals":
        """Read the variables of OpenTelemetry's specification."""
        refused: list[str] = []
        if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
            return cls(traces=False, metrics=False)
        traces, metrics = (_wanted(environment, signal, refused) for signal in ("traces", "metrics"))
        given = environment.get("OTEL_METRIC_EXPORT_INTERVAL", "").strip()
        milliseconds = int(given) if given.isdecimal() and len(given) < LONGEST_NUMBER else 0
        if given and not milliseconds:
            refused.append(f"OTEL_METRIC_EXPORT_INTERVAL is {given[:50]}; give milliseconds, such as 60000")
        seconds = (milliseconds or DEFAULT_MILLISECONDS) / 1000
        return cls(traces=traces, metrics=metrics, metric_seconds=seconds, refused=tuple(refused))


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


def _wanted(environment: Mapping[str, str], signal: str, refused: list[str]) -> bool:
    """Tell whether a signal is exported; what is asked for and cannot be is noted."""
    name = f"OTEL_{signal.upper()}_EXPORTER"
    exporter = environment.get(name, "").strip().lower()
    own = f"OTEL_EXPORTER_OTLP_{signal.upper()}"
    if exporter == "none" or not (exporter or environment.get(_ENDPOINT) or environment.get(f"{own}_ENDPOINT")):
        return False
    if exporter not in ("", "otlp"):
        refused.append(f"{name} is {exporter[:50]}; duplex exports by otlp, or none")
        return False
    protocol = environment.get(f"{own}_PROTOCOL") or environment.get(_PROTOCOL) or SPOKEN
    if protocol != SPOKEN:
        refused.append(f"the protocol for {signal} is {protocol[:50]}; duplex speaks {SPOKEN}, mostly at port 4318")
        return False
    return True
