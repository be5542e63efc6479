"""The manifests of deploy/kubernetes, as kustomize makes them, and the schemas that they have to keep."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

KUBECTL = shutil.which("kubectl")
ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "deploy" / "kubernetes"
PAGE = ROOT / "docs" / "how-to" / "kubernetes.md"
GATEWAY = json.loads((ROOT / "tests" / "data" / "kubernetes" / "gateway-v1.6.1.json").read_text())
VERSIONS = ("1.32", "1.37")
"""Of Kubernetes: the oldest that the page promises, and the newest whose schemas are installed."""
VARIANTS = ("base", "gpu", "mine")
"""``mine`` is the overlay that the page prints."""


def kustomize_version():
    """Return the major version of the kustomize within kubectl, 0 where there is none that tells it."""
    if KUBECTL is None:
        return 0
    told = subprocess.run([KUBECTL, "version", "--client"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"Kustomize Version: v(\d+)", told)
    return int(found[1]) if found else 0


needs_kustomize = pytest.mark.skipif(kustomize_version() < 5, reason="kubectl is not here, or has an old kustomize")


def printed_overlay():
    """Return the kustomization that the page tells its readers to begin with."""
    return re.search(r"^```yaml\n(apiVersion: kustomize.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)[1]


def render(variant, folder):
    """Return the objects of a variant, with a copy of the manifests in ``folder``."""
    copy = folder / "kubernetes"
    if not copy.exists():
        shutil.copytree(MANIFESTS, copy)
        (copy / "mine").mkdir()
        (copy / "mine" / "kustomization.yaml").write_text(printed_overlay())
    command = [KUBECTL, "kustomize", str(copy / variant)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (made.returncode, made.stderr) == (0, "")  # what is deprecated is told there
    return list(yaml.safe_load_all(made.stdout))


def check(thing, version):
    """Hold an object against its schema, in which unknown fields are refused.

    :raises jsonschema.ValidationError: if it breaks it
    """
    if thing["apiVersion"].startswith("gateway.networking.k8s.io/"):
        jsonschema.validate(thing, GATEWAY[thing["kind"]])
    else:
        kubernetes_validate.validate(thing, version, strict=True)


def one(things, kind, name="duplex"):
    """Return the object of a kind and a name."""
    (found,) = [each for each in things if each["kind"] == kind and each["metadata"]["name"] == name]
    return found


def pod(things, name="duplex"):
    """Return what a Deployment's pods are."""
    return one(things, "Deployment", name)["spec"]["template"]["spec"]


def environment(things):
    """Return the server's settings that stand in the manifest itself."""
    (container,) = pod(things)["containers"]
    return {each["name"]: each["value"] for each in container["env"] if "value" in each}
