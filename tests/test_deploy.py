"""What deploy/ asks of a server is there: metrics, labels, alerts with tests and explanations, files to mount."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from duplex.server.admission import Refusal
from duplex.server.close_reasons import CloseReason
from duplex.testing import fake_model
from duplex.transports import wire
from server_support import get, running, tone

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "duplex.json").read_text())
ALERTS = DEPLOY / "prometheus" / "alerts.yaml"
RULES = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
NAME = re.compile(r"\b(?:duplex|process)_\w+")
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}


@pytest.fixture(scope="module")
def metrics():
    """The names that a server has, each with its labels, after a call."""
    with fake_model(capacity=2) as model, running(model) as server:
        with server.call("?format=pcm") as caller:
            caller.until(wire.Kind.HANDSHAKE)
            caller.say(tone(0.3), audio_format="pcm")
            caller.finish()
            caller.rest()
        text = get(server, "/metrics")[2]
    kinds = re.findall(r"^# TYPE (\S+) (\S+)", text, re.MULTILINE)
    bases = {name.removesuffix("_total") if kind == "counter" else name: kind for name, kind in kinds}
    labels = {name: {"le"} for name in bases}
    for name, given in re.findall(r"^(\w+)\{(.*)\} ", text, re.MULTILINE):
        base = re.sub("_(bucket|sum|count|total|created)$", "", name)
        labels.setdefault(base, set()).update(re.findall(r"(\w+)=", given))
    return {base + suffix: labels[base] for base, kind in bases.items() for suffix in SUFFIXES[kind]}


EXPRESSIONS = {
    f"{panel['title']}: {target['expr']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
}
EXPRESSIONS |= {rule["alert"]: rule["expr"] for rule in RULES}


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS.keys())
def test_every_metric_that_is_asked_for_is_there(metrics, expression):
    named = NAME.findall(expression)
    assert named or expression.startswith("up{")
    assert not {*named} - metrics.keys()
    known = {"instance", "job"} | {label for name in named for label in metrics[name]}
    by = {label for group in re.findall(r"by \((.*?)\)", expression) for label in re.split(r"[,\s]+", group) if label}
    assert not by - known
    reasons = {each for group in re.findall(r'reason=~"(.*?)"', expression) for each in group.split("|")}
    assert reasons <= {each.name.lower() for each in CloseReason} | {each.value for each in Refusal}


def test_panels_do_not_overlap_and_name_their_lines():
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(taken)) == len(taken)
    assert max(x for x, _ in taken) < 24
    assert all(target["legendFormat"] for panel in DASHBOARD["panels"] for target in panel["targets"])
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_each_alert_is_tested_and_explained():
    tests = yaml.safe_load((DEPLOY / "prometheus" / "alerts_test.yaml").read_text())["tests"]
    asked = [each for test in tests for each in test["alert_rule_test"]]
    quiet = {each["alertname"] for each in asked if not each["exp_alerts"]}
    fires = {each["alertname"] for each in asked if each["exp_alerts"]}
    names = {rule["alert"] for rule in RULES}
    assert quiet == fires == names
    headings = re.findall(r"^### (\w+)$", (ROOT / "docs" / "how-to" / "operate.md").read_text(), re.MULTILINE)
    assert {*headings} >= names
    for rule in RULES:
        assert rule["annotations"]["runbook"] == f"docs/how-to/operate.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in {"critical", "warning"}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
@pytest.mark.parametrize(
    "command", ["check rules alerts.yaml", "test rules alerts_test.yaml", "check config prometheus.yaml"]
)
def test_promtool_finds_no_fault(command):
    asked = ["promtool", *command.split()]
    done = subprocess.run(asked, check=False, cwd=ALERTS.parent, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_mounted_is_there():
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    mounts = [each for service in compose["services"].values() for each in service.get("volumes", ())]
    folders = [each.split(":")[0] for each in mounts if each.startswith(".")]
    assert len(folders) == 4
    assert all((DEPLOY / each).exists() for each in folders)


def test_what_has_not_happened_is_told_as_zero():
    """Otherwise Prometheus saw no increase when it happens first, and no alert would tell of it."""
    with fake_model() as model, running(model) as server:
        text = get(server, "/metrics")[2]
    reasons = {reason.name.lower() for reason in CloseReason} - {reason.value for reason in Refusal}
    assert {*re.findall(r'^duplex_calls_ended_total\{reason="(\w+)"\} 0\.0$', text, re.MULTILINE)} == reasons
    assert {*re.findall(r'^duplex_calls_refused_total\{reason="(\w+)"\} 0\.0$', text, re.MULTILINE)} == {*Refusal}
    assert 'duplex_dropped_audio_seconds_total{side="user"} 0.0' in text
