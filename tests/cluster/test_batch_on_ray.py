"""The commands on a Ray cluster of this machine: the same results as without, each recording once."""

import contextlib
import json
import signal
import subprocess
import time
from subprocess import DEVNULL, PIPE

import psutil
import pyarrow.parquet
import pytest
from batch_support import SURROUNDINGS, wav_bytes, write_shard

from cli_support import COMMAND, SMALL

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PATIENCE = 600


def run(*arguments, status=0):
    command = [*COMMAND[:1], *COMMAND[3:], *(str(each) for each in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE, env=SURROUNDINGS)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done


def rows(out):
    return pyarrow.parquet.read_table(out / "results.parquet").to_pylist()


def recordings(folder, count, broken=1, channels=1, seconds=0.4):
    folder.mkdir()
    for index in range(count):
        (folder / f"{index:02}.wav").write_bytes(wav_bytes(index, seconds, channels))
    for index in range(broken):
        (folder / f"broken-{index}.wav").write_bytes(b"no audio")
    return folder


def test_process_gives_what_it_gives_alone_and_a_rerun_adds_no_row(cluster, tmp_path):
    given = recordings(tmp_path / "in", 5)
    model = ("--model", SMALL, "--sessions", "2", "--deterministic")
    run("process", given, "--out", tmp_path / "alone", *model, status=1)
    first = run("process", given, "--out", tmp_path / "out", *model, "--ray", cluster, "--workers", 2, status=1)
    assert first.stderr.count("duplex: error: ") == 1
    assert "5 done, 1 failed" in first.stderr
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*/run.json")}
    assert len(times) == 5
    for path in times:
        alone = tmp_path / "alone" / path.parent.name
        assert {each.name for each in alone.iterdir()} == {each.name for each in path.parent.iterdir()}
        for name in ("agent.wav", "tokens.safetensors"):
            assert (alone / name).read_bytes() == (path.parent / name).read_bytes()
    table = rows(tmp_path / "out")
    assert len({row["name"] for row in table}) == len(table) == 6
    again = run("process", given, "--out", tmp_path / "out", *model, "--ray", cluster, status=1)
    assert "5 skipped, 1 failed" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert [(row["name"], row["status"], row["text"]) for row in rows(tmp_path / "out")] == [
        (row["name"], row["status"], row["text"]) for row in table
    ]
    # What was finished on a cluster is finished without one.
    assert "5 skipped" in run("process", given, "--out", tmp_path / "out", *model, status=1).stderr


def test_shards_to_a_store_and_again(cluster, tmp_path):
    members = {f"{index}.wav": wav_bytes(index) for index in range(3)}
    shard = write_shard(tmp_path / "s.tar", {**members, "bad.wav": b"no audio"})
    out = (tmp_path / "bucket").as_uri()
    for counts in ("3 done, 1 failed", "3 skipped, 1 failed"):
        done = run("process", shard, "--out", out, "--model", SMALL, "--ray", cluster, "--workers", 1, status=1)
        assert counts in done.stderr
        assert f"{shard}/bad.wav" in done.stderr
    table = rows(tmp_path / "bucket")
    assert [row["name"] for row in table] == ["s/0", "s/1", "s/2", "s/bad"]
    told = json.loads((tmp_path / "bucket" / "s" / "0" / "run.json").read_text())
    assert told["input"] == f"{shard}/0.wav"
    assert (tmp_path / "bucket" / "s" / "0" / "agent.wav").stat().st_size > 44


def test_measure_and_score_give_rows_too(cluster, tmp_path):
    given = recordings(tmp_path / "in", 3, channels=2, seconds=1.0)
    run("measure", given, "--out", tmp_path / "alone", status=1)
    for counts in ("3 done, 1 failed", "3 skipped, 1 failed"):
        done = run("measure", given, "--out", tmp_path / "m", "--ray", cluster, "--workers", 2, status=1)
        assert counts in done.stderr
    assert (tmp_path / "m" / "dialogues.csv").read_text() == (tmp_path / "alone" / "dialogues.csv").read_text()
    assert len(rows(tmp_path / "m")) == 4
    for counts in ("3 done, 1 failed", "3 skipped, 1 failed"):
        done = run("score", given, "--out", tmp_path / "s", "--ray", cluster, "--workers", 1, status=1)
        assert counts in done.stderr
    assert all(row["sum"] < 0 for row in rows(tmp_path / "s") if row["status"] == "done")


def test_a_cluster_of_this_machine_listens_on_its_loopback_address_alone(tmp_path):
    given = recordings(tmp_path / "in", 1, 0, seconds=60.0)
    command = [*COMMAND[:1], *COMMAND[3:], "process", str(given), "--out", str(tmp_path / "out"), "--ray", "local"]
    heard = set()
    with subprocess.Popen(command, stdout=DEVNULL, stderr=DEVNULL) as process:
        while process.poll() is None:
            for each in psutil.Process(process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    sockets = each.net_connections(kind="inet")
                    heard |= {one.laddr.ip.removeprefix("::ffff:") for one in sockets if one.status == "LISTEN"}
            time.sleep(0.3)
    assert heard == {"127.0.0.1"}
    assert process.returncode == 0


def test_a_full_cluster_is_told_with_what_is_free(cluster, tmp_path):
    given = recordings(tmp_path / "in", 1, 0)
    arguments = ("--out", tmp_path / "out", "--ray", cluster, "--worker-cpus", 64, "--ray-wait", 2)
    done = run("process", given, *arguments, status=1)
    (line,) = done.stderr.splitlines()
    assert "the cluster is full: a worker takes 64 cores" in line
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_ended_goes_on_where_it_was(cluster, tmp_path, ending):
    given = recordings(tmp_path / "in", 12, 2, seconds=8.0)
    out = tmp_path / "out"
    arguments = ["process", str(given), "--out", str(out), "--ray", cluster, "--workers", "1", "--sessions", "2"]
    command = [*COMMAND[:1], *COMMAND[3:], *arguments]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and so do theirs
    # Of a driver that is killed Ray ends the whole process group, which would be that of these tests.
    process = subprocess.Popen(
        command, stdout=DEVNULL, stderr=PIPE, text=True, env=SURROUNDINGS, start_new_session=True
    )
    while len(list(out.glob("*/run.json"))) < 2:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    process.send_signal(ending)
    said = process.communicate(timeout=60)[1]
    if ending == signal.SIGINT:
        assert process.returncode == 130
        assert "interrupted; run it again" in said
        assert not list(out.rglob("*.part"))
    time.sleep(3)  # what the driver had started ends after it
    times = {path: path.stat().st_mtime_ns for path in out.glob("*/run.json")}
    assert 2 <= len(times) < 12
    run(*arguments, status=1)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert not list(out.rglob("*.part"))
    table = rows(out)
    assert len({row["name"] for row in table}) == len(table) == 14
    assert sum(row["status"] == "failed" for row in table) == 2
