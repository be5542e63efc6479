"""A call on a real terminal, a pseudo-terminal: it is as before when the call has ended, however it ended."""

import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "terminal_program.py"
ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"
PATIENCE = 40.0


class Terminal:
    """A program on a pseudo-terminal of its own."""

    def __init__(self, *arguments, columns=80, stderr=None, **environment):
        self.master, self.slave = pty.openpty()
        termios.tcsetwinsize(self.slave, (24, columns))
        self.before = termios.tcgetattr(self.slave)
        self.said = b""
        tests = PROGRAM.parent
        self.process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave if stderr is None else stderr,
            start_new_session=True,
            env={
                **os.environ,
                "TERM": "xterm-256color",
                "PYTHONPATH": os.pathsep.join([str(tests), os.environ.get("PYTHONPATH", "")]),
                **environment,
            },
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)

    def read(self, seconds):
        if select.select([self.master], [], [], seconds)[0]:
            self.said += os.read(self.master, 65536)

    def until(self, text, *, after=0):
        deadline = time.monotonic() + PATIENCE
        while text not in self.said[after:]:
            assert time.monotonic() < deadline, self.said[-2000:]
            assert self.process.poll() is None or select.select([self.master], [], [], 0)[0], self.said[-2000:]
            self.read(0.1)

    def end(self):
        """Return the exit status, when the program has ended and the terminal is as before."""
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None or select.select([self.master], [], [], 0)[0]:
            assert time.monotonic() < deadline, self.said[-2000:]
            self.read(0.1)
        assert self.said.rfind(LEAVE) > self.said.rfind(ENTER)
        assert self.said.rfind(b"\x1b[?25h") > self.said.rfind(b"\x1b[?25l"), "the cursor is hidden"
        assert termios.tcgetattr(self.slave) == self.before
        return self.process.returncode


@pytest.fixture
def terminal(tmp_path):
    with Terminal(PROGRAM, tmp_path) as terminal:
        terminal.until(b"capital of France")
        terminal.until(b"RECORDING")
        yield terminal


def recorded(folder):
    return sorted(path.name for path in folder.rglob("*.*"))


def test_ctrl_c_ends_the_call(terminal, tmp_path):
    os.write(terminal.master, b"\x03")
    assert terminal.end() == 130
    assert "run.json" in recorded(tmp_path), "the recording is not complete"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_call(terminal, tmp_path, number):
    terminal.process.send_signal(number)
    assert terminal.end() == 128 + number
    assert "run.json" in recorded(tmp_path)
    assert b"Traceback" not in terminal.said


def test_q_ends_the_call(terminal, tmp_path):
    os.write(terminal.master, b"q")
    assert terminal.end() == 0
    assert "dialogue.wav" in recorded(tmp_path)


def test_ctrl_z_gives_the_terminal_back_and_takes_it_again(terminal):
    os.write(terminal.master, b"\x1a")
    terminal.until(LEAVE)
    assert termios.tcgetattr(terminal.slave) == terminal.before
    place = len(terminal.said)
    deadline = time.monotonic() + PATIENCE
    while "T" not in Path(f"/proc/{terminal.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]:
        assert time.monotonic() < deadline, "it has not stopped"
        terminal.read(0.05)
    terminal.process.send_signal(signal.SIGCONT)
    terminal.until(ENTER, after=place)
    os.write(terminal.master, b"q")
    assert terminal.end() == 0


def test_a_mistake_in_the_screen_leaves_the_terminal_as_it_was(tmp_path):
    with Terminal(PROGRAM, tmp_path, "broken", PYTHON_COLORS="0") as terminal:
        terminal.until(b"ArithmeticError: a mistake")
        assert terminal.end() == 1


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "xterm"}])
def test_a_narrow_terminal_without_colour(tmp_path, environment):
    with Terminal(PROGRAM, tmp_path, columns=40, **environment) as terminal:
        terminal.until(b"agent")
        os.write(terminal.master, b"q")
        assert terminal.end() == 0, terminal.said[-3000:].decode(errors="replace")


def test_what_libraries_write_does_not_spoil_the_screen_and_comes_after_it(tmp_path):
    with Terminal(PROGRAM, tmp_path, "noisy") as terminal:
        terminal.until(b"capital of France")
        terminal.until(b"RECORDING")
        os.write(terminal.master, b"q")
        assert terminal.end() == 0
        assert b"underrun occurred" in terminal.said
        assert terminal.said.index(b"underrun occurred") > terminal.said.rfind(LEAVE)


def test_standard_error_that_goes_to_a_file_gets_no_screen_but_what_libraries_write(tmp_path):
    with (tmp_path / "errors").open("wb") as errors, Terminal(PROGRAM, tmp_path, "noisy", stderr=errors) as terminal:
        terminal.until(b"RECORDING")
        os.write(terminal.master, b"q")
        assert terminal.end() == 0
    written = (tmp_path / "errors").read_bytes()
    assert b"underrun occurred" in written
    assert b"\x1b" not in written
    assert b"underrun occurred" not in terminal.said


def test_the_screen_without_standard_error(tmp_path):
    program = f"import os, runpy, sys; os.close(2); sys.argv = {[str(PROGRAM), str(tmp_path)]!r}; "
    program += "runpy.run_path(sys.argv[0], run_name='__main__')"
    with Terminal("-c", program) as terminal:
        terminal.until(b"RECORDING")
        os.write(terminal.master, b"q")
        assert terminal.end() == 0
