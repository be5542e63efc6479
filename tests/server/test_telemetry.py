"""What a server tells OpenTelemetry: traces and metrics over a real receiver, and nothing without the wish."""

import re
import subprocess
import sys
import time
from collections import Counter

import pytest

from duplex.errors import UsageError
from duplex.server.telemetry.signals import Signals
from duplex.testing import fake_model
from duplex.transports import wire
from server_support import Process, get, running, tone, until

pytest.importorskip("opentelemetry.sdk", reason="the extra `otel` is not installed")

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from duplex.server.telemetry.tracing import Tracing
from telemetry_support import Receiver, values

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
TOLD = {"OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_METRIC_EXPORT_INTERVAL": "200"}


@pytest.fixture
def receiver():
    with Receiver().running() as made:
        yield made


def exported(receiver, **environment):
    return Process(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint, **{**TOLD, **environment})


def talk(server, **options):
    """Hold a call of half a second."""
    with server.call("?format=pcm&events=full", **options) as caller:
        caller.until(wire.Kind.HANDSHAKE)
        caller.say(tone(0.5), audio_format="pcm")
        caller.finish()
        assert caller.end()[0] == 1000


def test_a_call_its_queue_its_steps_and_its_wire(receiver):
    with exported(receiver) as served:
        talk(served.server, additional_headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
        _, said = served.stop()
    spans = {span.name: span for span in receiver.spans}
    parents = {span.name: span.parent_span_id for span in receiver.spans}
    tree = {
        "duplex.call": None,
        "duplex.queue": "duplex.call",
        "duplex.conversation": "duplex.call",
        "duplex.step": "duplex.conversation",
        "duplex.model": "duplex.step",
        "duplex.send": "duplex.conversation",
    }
    assert spans.keys() == tree.keys()
    assert {span.trace_id.hex() for span in receiver.spans} == {TRACE}, "the trace is the caller's"
    assert parents.pop("duplex.call").hex() == PARENT
    assert {name: parent for name, parent in tree.items() if parent} == {
        name: next(each.name for each in receiver.spans if each.span_id == parent) for name, parent in parents.items()
    }
    told = values(spans["duplex.call"].attributes)
    assert told["duplex.wire"] == "chat"
    assert told["duplex.model"] == "small"
    assert told["duplex.reason"] == "finished"
    assert f"session={told['duplex.session']} " in said
    assert f"trace={TRACE} " in said
    step, model = spans["duplex.step"], spans["duplex.model"]
    assert step.start_time_unix_nano <= model.start_time_unix_nano < model.end_time_unix_nano
    assert model.end_time_unix_nano == step.end_time_unix_nano
    whole = spans["duplex.conversation"]
    assert whole.start_time_unix_nano < step.start_time_unix_nano < step.end_time_unix_nano < whole.end_time_unix_nano
    assert values(model.attributes)["duplex.step.sessions"] == 1
    assert values(spans["duplex.send"].attributes)["duplex.bytes"] == 3840


def test_metrics_are_those_of_prometheus(receiver):
    named = {"OTEL_SERVICE_NAME": "line-7", "OTEL_RESOURCE_ATTRIBUTES": "service.version=ours"}
    with exported(receiver, OTEL_TRACES_EXPORTER="none", **named) as served:
        talk(served.server)
        until(lambda: "duplex_call_seconds_count 1.0" in get(served.server, "/metrics")[2])
        seen = get(served.server, "/metrics")[2]
        served.stop()
    assert not receiver.spans
    assert {(each["service.name"], each["service.version"]) for each in receiver.resources} == {("line-7", "ours")}
    metrics = receiver.metrics
    families = {
        re.sub("_total$", "", name) if kind == "counter" else name
        for name, kind in re.findall(r"^# TYPE (\S+) (\S+)", seen, re.MULTILINE)
        if not name.endswith("_created")
    }
    assert metrics.keys() == families
    (point,) = metrics["duplex_call_seconds"].histogram.data_points
    assert point.count == 1
    assert sum(point.bucket_counts) == 1
    assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
    assert not point.HasField("min")
    (ended,) = [point for point in metrics["duplex_calls_ended"].sum.data_points if point.as_double]
    assert metrics["duplex_calls_ended"].sum.is_monotonic
    assert values(ended.attributes) == {"reason": "finished"}
    (places,) = metrics["duplex_places"].gauge.data_points
    assert (values(places.attributes), places.as_double) == ({"model": "small"}, 4)
    counted = float(re.search(r"duplex_step_seconds_count\S* (\S+)", seen)[1])
    assert metrics["duplex_step_seconds"].histogram.data_points[0].count == counted > 0


def test_with_fronts_each_traces_its_calls_and_the_metrics_are_of_the_whole(receiver):
    with exported(receiver, DUPLEX_FRONTS="2") as served:
        for _ in range(8):  # connections are spread over the fronts
            talk(served.server, additional_headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
        until(lambda: "duplex_call_seconds_count 8.0" in get(served.server, "/metrics")[2])
        status, _ = served.stop()
    assert status == 0
    spans = Counter((span.name, span.trace_id.hex() == TRACE) for span in receiver.spans)
    calls = {("duplex.call", True), ("duplex.queue", True), ("duplex.conversation", True)}
    assert {name: spans.pop(name) for name in calls} == dict.fromkeys(calls, 8)
    assert spans.keys() == {("duplex.send", True), ("duplex.model", False)}
    model = next(span for span in receiver.spans if span.name == "duplex.model")
    assert not model.parent_span_id
    assert values(model.attributes)["duplex.step.sessions"] == 1
    assert receiver.metrics["duplex_call_seconds"].histogram.data_points[0].count == 8
    assert receiver.metrics["duplex_step_seconds"].histogram.data_points[0].count > 0
    assert len({each["service.instance.id"] for each in receiver.resources}) == 1


def test_spans_of_a_provider_are_of_one_process():
    with (
        fake_model() as model,
        pytest.raises(UsageError, match="one front"),
        running(model, telemetry=Tracing(TracerProvider()), fronts=2),
    ):
        pass


def test_a_refused_call_is_a_trace_of_its_own(receiver):
    with exported(receiver, OTEL_METRICS_EXPORTER="none", DUPLEX_SESSIONS="1", DUPLEX_QUEUE="0") as served:
        with served.server.call() as first:
            first.until(wire.Kind.HANDSHAKE)
            with served.server.call() as second:
                assert second.end()[0] == 1013
        served.stop()
    assert not receiver.metrics
    calls = [span for span in receiver.spans if span.name == "duplex.call"]
    assert {values(span.attributes)["duplex.reason"] for span in calls} == {"full", "hung_up"}
    (full,) = [span for span in calls if values(span.attributes)["duplex.reason"] == "full"]
    assert [span.name for span in receiver.spans if span.trace_id == full.trace_id].count("duplex.conversation") == 0


@pytest.mark.slow
def test_a_collector_that_is_gone_holds_nobody_up():
    with Process(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", **TOLD) as served:
        talk(served.server)
        status, said = served.stop()
    assert status == 0
    assert "Traceback" not in said
    assert "Connection refused" in said


def test_what_cannot_be_exported_is_told_and_the_server_starts():
    with Process(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", OTEL_EXPORTER_OTLP_PROTOCOL="grpc") as served:
        assert "duplex speaks http/protobuf" in served.told
        assert get(served.server, "/healthz")[0] == 200


def test_nothing_of_it_is_imported_without_the_wish():
    code = (
        "import sys, duplex.cli.serve, duplex.server as s\nfrom duplex.testing import fake_model\n"
        "from duplex.server.telemetry.environment import telemetry_of_environment as t\n"
        "assert t() is None and s.application(fake_model()).state.service.telemetry is None and s.serve\n"
        "assert not [n for n in sys.modules if n.startswith('opentelemetry')], 'imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_without_the_extra_the_server_says_what_to_install():
    code = (
        "import sys, os\nsys.modules.update({'opentelemetry': None, 'opentelemetry.sdk': None})\n"
        "os.environ['OTEL_TRACES_EXPORTER'] = 'otlp'\nimport duplex.server.telemetry.environment as e\n"
        "assert e.telemetry_of_environment() is None"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True).stderr
    assert "not installed" in told
    assert "[otel]" in told


@pytest.mark.parametrize(
    ("environment", "names"),
    [
        ({}, ()),
        ({"OTEL_SERVICE_NAME": "x"}, ()),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, ("traces", "metrics")),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "TRUE"}, ()),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_METRICS_EXPORTER": "none"}, ("traces",)),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c:4318"}, ("metrics",)),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, ("traces",)),
        ({"OTEL_TRACES_EXPORTER": "zipkin", "OTEL_METRICS_EXPORTER": "otlp"}, ("metrics",)),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, ()),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"}, ()),
    ],
)
def test_what_the_environment_asks_for(environment, names):
    signals = Signals.read(environment)
    assert signals.names == names
    assert bool(signals.refused) == bool({"zipkin", "grpc", "http/json"} & {*environment.values()})


@pytest.mark.parametrize(
    ("given", "seconds"), [("", 60), ("5000", 5), ("0", 60), ("soon", 60), ("-1", 60), ("9" * 99, 60)]
)
def test_the_interval_of_metrics(given, seconds):
    signals = Signals.read({"OTEL_METRICS_EXPORTER": "otlp", "OTEL_METRIC_EXPORT_INTERVAL": given})
    assert signals.metric_seconds == seconds
    assert bool(signals.refused) == (given not in ("", "5000"))


def test_steps_of_two_calls_are_in_the_traces_of_both():
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing = Tracing(provider, step_seconds=0.0)
    with (
        fake_model(capacity=2) as model,
        traced(model, tracing) as server,
        server.call("?format=pcm") as one,
        server.call("?format=pcm") as two,
    ):
        for caller in (one, two):
            caller.until(wire.Kind.HANDSHAKE)
        for _ in range(12):
            for caller in (one, two):
                caller.say(tone(0.08), audio_format="pcm")
            time.sleep(0.08)
        for caller in (one, two):
            caller.finish()
            caller.end()
    spans = exporter.get_finished_spans()
    steps = Counter(span.context.trace_id for span in spans if span.name == "duplex.step")
    assert len(steps) == 2
    assert min(steps.values()) >= 5
    for trace in steps:
        frames = [
            s.attributes["duplex.frame"] for s in spans if s.name == "duplex.step" and s.context.trace_id == trace
        ]
        assert len(set(frames)) == len(frames), "a step is told once"


def traced(model, tracing):
    """Run a server that is traced, and exports nothing itself."""
    return running(model, telemetry=tracing)
