"""The package's types as a user's checker sees them: pyright, in strict mode, on the package that is imported."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import duplex

CLIENT = Path(__file__).with_name("client.py")
MODULES = {"bench", "measuring", "process", "scoring", "server", "testing", "training"}
FUNCTIONS = {"connect", "load", "load_async", "load_codec", "__version__"}


def pyright(*arguments, cwd):
    """Run pyright with the interpreter of this process; ``--verifytypes`` finds it by PATH alone."""
    if shutil.which("pyright", path=sysconfig.get_path("scripts")) is None:
        pytest.skip("pyright is not installed")
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    source = str(Path(duplex.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-m", "pyright", *arguments],
        env={**os.environ, "PATH": path, "PYTHONPATH": source},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.stdout + done.stderr


def test_a_client_in_strict_types(tmp_path):
    shutil.copy(CLIENT, tmp_path)
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    told = pyright("client.py", cwd=tmp_path)
    assert "0 errors, 0 warnings" in told, told


def test_a_client_that_forgets_an_event(tmp_path):
    """Whoever leaves one out is told so: the events are a closed union."""
    program = CLIENT.read_text()
    case = program[program.index("        case duplex.Lag(") : program.index("        case duplex.SessionEnded(")]
    (tmp_path / "client.py").write_text(program.replace(case, ""))
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    told = pyright("client.py", cwd=tmp_path)
    assert 'Argument of type "Lag"' in told, told


def test_the_client_uses_every_public_class():
    used = set(re.findall(r"\bduplex\.(\w+)", CLIENT.read_text()))
    assert set(duplex.__all__) - MODULES <= used
    assert used >= FUNCTIONS
    assert not re.search(r"\bAny\b", CLIENT.read_text().split('"""', 2)[2])


def test_every_public_type_is_known(tmp_path):
    told = pyright("--verifytypes", "duplex", "--ignoreexternal", cwd=tmp_path)
    assert "Type completeness score: 100%" in told, told
