"""The bill of materials names what is pinned, and the workflow asks for known faults before it releases."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import duplex

ROOT = Path(__file__).parent.parent
PIN = re.compile(r"^([\w.-]+)==([^\s;]+)", re.MULTILINE)


def write(out):
    subprocess.run([sys.executable, ROOT / "tools" / "write_sbom.py", "--out", out], check=True, timeout=120)
    return out.read_bytes()


@pytest.mark.slow
def test_the_bill_names_every_pinned_package_and_nothing_else_twice_the_same(tmp_path):
    pytest.importorskip("cyclonedx_py", reason="the group `release` is not installed")
    written = write(tmp_path / "a.json")
    assert write(tmp_path / "b.json") == written
    bill = json.loads(written)
    assert (bill["bomFormat"], bill["metadata"]["component"]["version"]) == ("CycloneDX", duplex.__version__)
    pinned = set(PIN.findall((ROOT / "constraints.txt").read_text()))
    assert {(each["name"], each["version"]) for each in bill["components"]} == pinned
    assert all(each["purl"].startswith("pkg:pypi/") for each in bill["components"])


def test_a_release_is_audited_and_what_could_not_be_looked_up_fails():
    make = (ROOT / "Makefile").read_text()
    (command,) = re.findall(r"^\t.*pip-audit (.*)$", make, re.MULTILINE)
    assert {"--strict", "--requirement", "constraints.txt"} <= set(command.split())
    workflow = (ROOT / ".github" / "workflows" / "release.yml").read_text()
    assert workflow.index("make audit") < workflow.index("make dist") < workflow.index("attest-build-provenance")
