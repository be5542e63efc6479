"""The wheel and the sdist: what is in them and nothing else, the same bytes each time."""

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import duplex

pytest.importorskip("build", reason="the group `release` is not installed")
pytest.importorskip("twine", reason="the group `release` is not installed")

ROOT = Path(__file__).parent.parent
EPOCH = "1764000000"
NOT_FOR_OTHERS = re.compile(r"__pycache__|\.pyc$|/tests?/|node_modules|\.map$|\.venv|(^|/)out/|\.part$")
DOCUMENTS = {"CHANGELOG.md", "LICENSE", "README.md", "SECURITY.md", "constraints.txt", "pyproject.toml"}
WHEEL, SDIST = f"duplex_speech-{duplex.__version__}-py3-none-any.whl", f"duplex_speech-{duplex.__version__}.tar.gz"


def run(*command, cwd=ROOT, **environment):
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=cwd,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(source, out):
    run("build", "--no-isolation", "--outdir", out, cwd=source, SOURCE_DATE_EPOCH=EPOCH)
    return out


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Return a folder with an sdist, and the wheel that was built from it."""
    return build(ROOT, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def tracked():
    """Return the files of the package that git knows, as the wheel names them."""
    if not (ROOT / ".git").exists():
        pytest.skip("not in a clone")
    listed = subprocess.run(
        [shutil.which("git"), "ls-files", "src/duplex"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {name.removeprefix("src/") for name in listed.stdout.splitlines()}


@pytest.fixture(scope="module")
def wheel(built):
    with zipfile.ZipFile(built / WHEEL) as archive:
        yield archive


def test_there_are_two_and_twine_finds_no_fault(built):
    assert {path.name for path in built.iterdir()} == {WHEEL, SDIST}
    assert run("twine", "check", "--strict", *sorted(built.iterdir()), NO_COLOR="1").count("PASSED") == 2


def test_the_wheel_has_the_package_and_nothing_else(wheel, tracked):
    names = set(wheel.namelist())
    about = {name for name in names if ".dist-info/" in name}
    assert names - about == tracked
    assert {name.partition("/")[2] for name in about} == {
        "METADATA",
        "RECORD",
        "WHEEL",
        "entry_points.txt",
        "licenses/LICENSE",
        "licenses/src/duplex/voice_activity/LICENSE.silero-vad",
    }
    assert not [name for name in names if NOT_FOR_OTHERS.search(name.replace("duplex/testing/", ""))]


@pytest.mark.parametrize(
    "name",
    [
        "py.typed",
        "__init__.pyi",
        "server/page/index.html",
        "server/page/main.js",
        "models/tiny/model.safetensors",
        "models/tiny/tokenizer_spm.model",
        "voice_activity/silero_vad_16k.safetensors",
    ],
)
def test_what_is_no_python_is_whole(wheel, name):
    assert wheel.read(f"duplex/{name}") == (ROOT / "src" / "duplex" / name).read_bytes()


def test_the_sdist_has_what_builds_the_wheel_and_nothing_else(built, tracked):
    with tarfile.open(built / SDIST) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
        owners = {(member.uid, member.gid, member.uname, member.gname) for member in archive.getmembers()}
    assert names == {f"src/{name}" for name in tracked} | DOCUMENTS | {".gitignore", "PKG-INFO"}
    assert owners == {(0, 0, "", "")}


def test_the_version_stands_in_one_place(wheel):
    name = next(name for name in wheel.namelist() if name.endswith("METADATA"))
    assert email.message_from_bytes(wheel.read(name))["Version"] == duplex.__version__
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "version" not in project
    assert project["dynamic"] == ["version"]


@pytest.mark.slow
def test_the_same_bytes_from_another_folder(built, tracked, tmp_path):
    """Neither the place, nor the times and the modes of files, nor what lies beside them, is in an artefact."""
    copy = tmp_path / "elsewhere"
    for name in [*(f"src/{name}" for name in tracked), *DOCUMENTS, ".gitignore"]:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, copy / name)
        os.utime(copy / name, (1, 1))
    (copy / "src" / "duplex" / "__pycache__").mkdir()
    (copy / "src" / "duplex" / "__pycache__" / "left.cpython-311.pyc").write_bytes(b"left")
    again = build(copy, tmp_path / "dist")
    for name in (WHEEL, SDIST):
        assert (again / name).read_bytes() == (built / name).read_bytes(), name


@pytest.mark.slow
def test_an_installed_wheel_has_its_commands_its_model_its_page_and_its_types(built, tmp_path):
    site = tmp_path / "site"
    run("pip", "install", "--quiet", "--no-deps", "--no-index", "--target", site, built / WHEEL)
    assert (site / "bin" / "duplex").exists() or (site / "bin" / "duplex.exe").exists()
    assert duplex.__version__ in run("duplex", "--version", cwd=tmp_path, PYTHONPATH=str(site))
    assert str(site) in run("pydoc", "duplex", cwd=tmp_path, PYTHONPATH=str(site)), "another duplex was run"
    told = run("duplex", "info", "tiny", cwd=tmp_path, PYTHONPATH=str(site))
    assert "tiny" in told
    for command in ("talk", "serve", "process", "measure", "say", "doctor"):
        assert "Usage" in run("duplex", command, "--help", cwd=tmp_path, PYTHONPATH=str(site))
