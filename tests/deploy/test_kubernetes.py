"""The manifests keep Kubernetes' schemas, fit together, and fit the server."""

import copy
import re

import jsonschema
import pytest
import yaml
from kubernetes_support import (
    MANIFESTS,
    PAGE,
    ROOT,
    VARIANTS,
    VERSIONS,
    check,
    environment,
    needs_kustomize,
    one,
    pod,
    render,
)

from duplex.server.http_server import GRACE_SECONDS
from duplex.server.metrics import Metrics
from server_support import Process, get

pytestmark = needs_kustomize


@pytest.fixture(scope="module")
def variants(tmp_path_factory):
    folder = tmp_path_factory.mktemp("manifests")
    return {name: render(name, folder) for name in VARIANTS}


@pytest.fixture(params=VARIANTS)
def things(request, variants):
    return copy.deepcopy(variants[request.param])


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_keeps_its_schema(things, version):
    for thing in things:
        check(thing, version)


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Deployment", ("spec", "template", "spec", "terminationGracePeriodsSeconds"), 30),
        ("Deployment", ("spec", "template", "spec", "terminationGracePeriodSeconds"), "long"),
        ("HorizontalPodAutoscaler", ("spec", "minReplica"), 2),
        ("PodDisruptionBudget", ("spec", "maxUnavailables"), 1),
        ("NetworkPolicy", ("spec", "ingres"), []),
        ("HTTPRoute", ("spec", "rules", 1, "sessionPersistance"), {}),
        ("HTTPRoute", ("spec", "rules", 1, "timeouts", "request"), 0),
        ("Gateway", ("spec", "listeners", 0, "port"), 0),
    ],
)
def test_a_slip_breaks_a_schema(variants, kind, path, value):
    thing = copy.deepcopy(one(variants["base"], kind))
    *parents, last = path
    place = thing
    for step in parents:
        place = place[step]
    place[last] = value
    with pytest.raises(jsonschema.ValidationError):
        check(thing, VERSIONS[-1])


def test_a_replica_has_the_time_that_its_calls_need(things):
    told, spec = environment(things), pod(things)
    (container,) = spec["containers"]
    drain = float(told["DUPLEX_DRAIN"])
    needed = container["lifecycle"]["preStop"]["sleep"]["seconds"] + drain + GRACE_SECONDS
    assert needed < spec["terminationGracePeriodSeconds"]
    # Where calls cannot move, none is longer than the drain.
    limit = float(told["DUPLEX_SESSION_LIMIT"])
    assert "DUPLEX_STATE_STORE" in told or 0 < limit <= drain


def test_what_selects_pods_finds_them(things):
    labels = {
        each["metadata"]["name"]: each["spec"]["template"]["metadata"]["labels"]
        for each in things
        if each["kind"] == "Deployment"
    }
    for thing in things:
        spec = thing.get("spec", {})
        if thing["kind"] == "Service":
            selector = spec["selector"]
        elif "podSelector" in spec:
            selector = spec["podSelector"]["matchLabels"]
        elif thing["kind"] in ("Deployment", "PodDisruptionBudget"):
            selector = spec["selector"]["matchLabels"]
        else:
            continue
        wanted = "duplex-redis" if thing["metadata"]["name"] == "duplex-redis" else "duplex"
        assert [name for name, those in labels.items() if selector.items() <= those.items()] == [wanted]


def test_what_names_another_object_names_one_that_is_there(things):
    (container,) = pod(things)["containers"]
    ports = {each["name"] for each in container["ports"]}
    service = one(things, "Service")
    assert {each["targetPort"] for each in service["spec"]["ports"]} <= ports
    assert {
        container[probe]["httpGet"]["port"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")
    } <= ports
    target = one(things, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    one(things, target["kind"], target["name"])
    route = one(things, "HTTPRoute")["spec"]
    one(things, "Gateway", route["parentRefs"][0]["name"])
    backends = [backend for rule in route["rules"] for backend in rule.get("backendRefs", [])]
    assert [(each["name"], each["port"]) for each in backends] == [("duplex", service["spec"]["ports"][0]["port"])]


def test_secrets_are_not_in_the_manifests_and_the_page_says_how_to_make_them(things):
    assert not [each for each in things if each["kind"] == "Secret"]
    text = yaml.safe_dump_all(things)
    named = set(re.findall(r"secretName: (\S+)", text)) | set(
        re.findall(r"secretKeyRef:\n\s+key: \S+\n\s+name: (\S+)", text)
    )
    assert "duplex-tokens" in named
    for name in named:
        assert re.search(rf"kubectl .*create secret \S+ {name} ", PAGE.read_text())


def test_what_the_autoscaler_wants_is_what_the_adapter_computes_of_metrics_that_are_there(things):
    (wanted,) = [each["pods"] for each in one(things, "HorizontalPodAutoscaler")["spec"]["metrics"]]
    (rule,) = yaml.safe_load((MANIFESTS / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    assert wanted["metric"]["name"] == rule["name"]["as"]
    families = {each.name: each for each in Metrics().registry.collect()}
    series = set(re.findall(r"duplex_\w+", rule["metricsQuery"] + rule["seriesQuery"]))
    assert len(series) == 3
    assert {families[name].type for name in series} == {"gauge"}


def test_pods_may_run_where_nothing_is_allowed(things):
    """The namespace is of the restricted pod security standard."""
    image = (ROOT / "deploy" / "Dockerfile").read_text()
    assert pod(things)["securityContext"]["runAsUser"] == int(re.search(r"useradd .*--uid (\d+)", image)[1])
    for name in {each["metadata"]["name"] for each in things if each["kind"] == "Deployment"}:
        spec = pod(things, name)
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
        assert spec["automountServiceAccountToken"] is False
        # A Service named duplex would be DUPLEX_PORT=tcp://... in the environment.
        assert spec["enableServiceLinks"] is False
        for container in spec["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_the_server_takes_the_settings_and_answers_the_probes(variants, tmp_path):
    told, (container,) = environment(variants["base"]), pod(variants["base"])["containers"]
    (tokens := tmp_path / "tokens").write_text("kubernetes:0123456789abcdef\n")
    settings = {
        **told,
        "DUPLEX_TOKEN_FILE": str(tokens),
        "DUPLEX_HOST": "0.0.0.0",  # noqa: S104 -- as in the image
        "DUPLEX_ALLOW_HOST": "talk.example.org",
    }
    with Process("--sessions", 1, **settings) as process:
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked = container[probe]["httpGet"]
            headers = {each["name"]: each["value"] for each in asked["httpHeaders"]}
            assert get(process.server, asked["path"], **headers)[0] == 200
        with process.server.call(additional_headers={"Authorization": "Bearer 0123456789abcdef"}) as caller:
            caller.next()
            assert get(process.server, "/readyz", Host="localhost")[0] == 503  # full: no new caller is sent to it
            assert get(process.server, "/healthz", Host="localhost")[0] == 200
