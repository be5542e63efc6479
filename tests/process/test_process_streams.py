"""Recordings that come through a pipe, linked folders, and what is passed over."""

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import pytest
from process_support import anyio_backend, model, touch  # noqa: F401

from cli_support import COMMAND, SMALL, noise, run, tokens_of, write_wav
from duplex.process import find_recordings, process

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs pipes and links")


def piped(content, *arguments):
    """Run the command with a pipe of these bytes as the standard input of this process."""
    reading, writing = os.pipe()
    standard_input = os.dup(0)
    os.dup2(reading, 0)
    with ThreadPoolExecutor() as writer, open(writing, "wb") as pipe, open(0, closefd=False) as stream:  # noqa: PTH123
        try:
            writer.submit(lambda: (pipe.write(content), pipe.close()))
            with mock.patch.object(sys, "stdin", stream):
                return run(*arguments, "--model", SMALL)
        finally:
            os.close(reading)
            os.dup2(standard_input, 0)
            os.close(standard_input)


def left_in(folder):
    """Return the copies that were not removed; libraries have caches there."""
    return list(folder.glob("duplex-*"))


@pytest.fixture
def copies(tmp_path, monkeypatch):
    """The folder for temporary files, of this process and those it starts."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_the_standard_input(tmp_path, copies, name):
    content = write_wav(tmp_path / "a.wav", noise(0.3)).read_bytes()
    out = tmp_path / "out"
    done = piped(content, "process", name, "--out", out)
    assert (done.status, done.err) == (0, "")
    assert [path.name for path in out.iterdir()] == ["stdin"]
    run_record = json.loads((out / "stdin" / "run.json").read_text())
    assert (run_record["input"], run_record["cut_short"]) == ("/dev/stdin", False)
    assert "finished before" in piped(content, "process", name, "--out", out).out

    other = write_wav(tmp_path / "b.wav", noise(0.5)).read_bytes()
    refused = piped(other, "process", name, "--out", out)
    assert refused.status == 1
    assert "another recording" in refused.err
    assert tokens_of(out / "stdin")["text"].size == 4
    assert piped(other, "process", name, "--out", out, "--force").status == 0
    assert tokens_of(out / "stdin")["text"].size == 7
    assert left_in(copies) == []


def test_a_file_as_the_standard_input(tmp_path):
    path = write_wav(tmp_path / "a.wav", noise(0.3))
    with path.open("rb") as file:
        line = [*COMMAND, "process", "-", "--out", tmp_path / "out", "--model", SMALL]
        assert subprocess.run(line, stdin=file, capture_output=True, timeout=120, check=False).returncode == 0


def test_a_file_that_is_called_dash(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_wav(tmp_path / "-", noise(0.2))
    assert [str(recording.name) for recording in find_recordings(["./-", "-"])] == ["-", "stdin"]
    assert run("process", "./-", "--model", SMALL).status == 0


@pytest.mark.parametrize(("content", "words"), [(b"", "/dev/stdin is empty"), (b"diary\n" * 999, "not a recording")])
def test_a_pipe_without_a_recording(tmp_path, copies, content, words):
    path = write_wav(tmp_path / "a.wav", noise(0.2))
    done = piped(content, "process", "-", path, "--out", tmp_path / "out")
    assert done.status == 1
    assert words in done.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a"], "the others are processed"
    assert left_in(copies) == []


def test_codes_of_a_pipe(tmp_path):
    content = write_wav(tmp_path / "a.wav", noise(0.3)).read_bytes()
    assert piped(content, "encode", "-", "--out", tmp_path / "f.safetensors").status == 0
    assert run("encode", tmp_path / "a.wav", "--out", tmp_path / "g.safetensors", "--model", SMALL).status == 0
    assert (tmp_path / "f.safetensors").read_bytes() == (tmp_path / "g.safetensors").read_bytes()


@pytest.mark.anyio
async def test_a_named_pipe(model, tmp_path, copies):
    sound = write_wav(tmp_path / "a.wav", noise(0.3))
    os.mkfifo(tmp_path / "call.wav")
    with ThreadPoolExecutor() as writer:
        writer.submit((tmp_path / "call.wav").write_bytes, sound.read_bytes())
        (result,) = await process(model, [tmp_path / "call.wav"], tmp_path / "out")
    (plain,) = await process(model, [sound], tmp_path / "out")
    assert (result.status, result.folder) == ("done", tmp_path / "out" / "call")
    assert (result.folder / "agent.wav").read_bytes() == (plain.folder / "agent.wav").read_bytes()
    assert left_in(copies) == []


def found_in(*inputs, out=None):
    """Return the names of the results, and what was passed over, below the first input."""
    passed_over: list[Path] = []
    recordings = find_recordings(inputs, out, passed_over=passed_over.append)
    return [str(one.name) for one in recordings], sorted(str(path.relative_to(inputs[0])) for path in passed_over)


def test_more_kinds_of_recordings(tmp_path):
    names = ["a.sph", "b.weba", "c.3gp", "d.aifc", "e.WV", "f.mp2", "g.ogv", "h.mpg", "i.flv", "j.au", "k.spx", "l.m4b"]
    touch(tmp_path, *names)
    assert found_in(tmp_path) == (sorted("abcdefghijkl"), [])


def test_what_is_passed_over_is_told(tmp_path):
    touch(tmp_path, "a.wav", "a.TextGrid", "deep/notes.txt", "call.raw", ".hidden", "out/a/agent.wav", "out/a/run.json")
    names, passed_over = found_in(tmp_path, out=tmp_path / "out")
    assert names == ["a"]
    assert passed_over == ["a.TextGrid", "call.raw", "deep/notes.txt"]
    write_wav(tmp_path / "a.wav", noise(0.2))
    touch(tmp_path, "1.txt", "2.txt")
    outcome = run("process", tmp_path, "--out", tmp_path / "out", "--model", SMALL)
    assert outcome.status == 0
    (line,) = outcome.err.splitlines()
    assert line.startswith("duplex: note: ")
    assert "1.txt" in line
    assert "and 2 more: passed over" in line


def test_linked_folders_are_searched_once(tmp_path):
    touch(tmp_path / "in", "one.wav", "deep/two.wav")
    touch(tmp_path / "else", "three.wav", "notes.txt")
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "else")
    (tmp_path / "in" / "again").symlink_to(tmp_path / "else")
    (tmp_path / "in" / "circle").symlink_to(tmp_path / "in")
    (tmp_path / "else" / "back").symlink_to(tmp_path / "in" / "deep")
    (tmp_path / "in" / "alias.wav").symlink_to(tmp_path / "in" / "one.wav")
    assert found_in(tmp_path / "in") == (["again/three", "alias", "deep/two", "one"], ["again/notes.txt"])
    names, _ = found_in(tmp_path / "in" / "**" / "*.wav")
    assert sorted(name.rpartition("/")[2] for name in names) == ["alias", "one", "three", "two"]
