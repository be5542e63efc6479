"""Which signals OpenTelemetry's environment variables ask for."""

import uuid
from collections.abc import Mapping

import attrs

from duplex.parsing import LONGEST_NUMBER

__all__ = ["Signals"]

_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"
SPOKEN = "http/protobuf"
DEFAULT_MILLISECONDS = 60_000


@attrs.frozen(kw_only=True)
class Signals:
    """What is exported, and in whose name."""

    traces: bool
    metrics: bool
    metric_seconds: float = DEFAULT_MILLISECONDS / 1000
    """Between two exports of metrics."""
    refused: tuple[str, ...] = ()
    """What is asked for and cannot be done, a sentence each."""
    instance: str = attrs.field(factory=lambda: str(uuid.uuid4()))
    """Names the server, of which several processes may export."""

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
