"""Recordings after the call: how long they are kept, and who deletes them."""

import contextlib
import errno
import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from recordings_support import ALICE, BOB, bearer, model, recorded, talk  # noqa: F401

from cli_support import run
from duplex.errors import OutputError, UsageError
from duplex.server import Settings, recordings_api
from duplex.server.metrics import Metrics
from duplex.server.recordings import Recording, expired, recordings_in
from duplex.server.retention import Retention
from duplex.transports import wire
from server_support import ask, get, running, tone, until

DAY = 86_400.0


def made(folder, name, *, days=0.0, size=1000, ended=True, **about):
    """Make a recording as a server would have, so many days ago."""
    path = folder / name
    path.mkdir(parents=True)
    (path / "dialogue.wav").write_bytes(bytes(size))
    end = "2026-01-01T00:00:00Z" if ended else None
    (path / "call.json").write_text(json.dumps({"session": name[-8:], "owner": "alice", **about, "ended": end}))
    for file in path.iterdir():
        os.utime(file, (time.time() - days * DAY,) * 2)
    return path


def lying(*, days=0.0, size=10**9, ended=True, name="x"):
    from pathlib import Path  # noqa: PLC0415

    return Recording(path=Path(name), written=1000 * DAY - days * DAY, size=size, ended=ended)


@pytest.mark.parametrize(
    ("there", "limits", "gone"),
    [
        ([31, 29, 0], {"days": 30, "gigabytes": 0}, [(31, "age")]),
        ([31, 29, 0], {"days": 0, "gigabytes": 0}, []),
        ([31, 29, 0], {"days": 0, "gigabytes": 2}, [(31, "size")]),
        ([31, 29, 0], {"days": 0, "gigabytes": 0.5}, [(31, "size"), (29, "size"), (0, "size")]),
        ([31, 29, 0], {"days": 30, "gigabytes": 1}, [(31, "age"), (29, "size")]),
        ([31, 29, 0], {"days": 30, "gigabytes": 2}, [(31, "age")]),
    ],
)
def test_what_is_too_old_goes_first_then_what_is_too_much(there, limits, gone):
    recordings = [lying(days=days, name=str(days)) for days in there]
    assert [(int(each.name), why) for each, why in expired(recordings, 1000 * DAY, **limits)] == gone


def test_what_is_being_written_stays():
    going_on, crashed = lying(days=0, ended=False, name="a"), lying(days=1, ended=False, name="b")
    limits = {"days": 0.5, "gigabytes": 0.1}
    assert [(each.name, why) for each, why in expired([crashed, going_on], 1000 * DAY, **limits)] == [("b", "age")]


def test_a_server_keeps_its_folder_within_limits_and_writes_down_what_it_deletes(model, tmp_path):
    old = made(tmp_path, "20260101-120000-0123abcd", days=40)
    kept = [made(tmp_path, "20260201-120000-0123abce", days=20)]
    outside = tmp_path.parent / "outside"
    made(outside, "20260101-120000-0123abcf", days=99)
    kept += [tmp_path / "20260101-120000-0123abcf", tmp_path / "notes"]
    kept[1].symlink_to(outside / kept[1].name, target_is_directory=True)
    kept[2].mkdir()
    os.utime(kept[2], (0, 0))
    with running(model, Settings(record=tmp_path, record_days=30)) as server:
        until(lambda: not old.exists())
        until(lambda: "duplex_recordings 1.0" in get(server, "/metrics")[2])
        assert 'duplex_recordings_deleted_total{why="age"} 1.0' in get(server, "/metrics")[2]
    assert all(path.exists() for path in kept)
    assert (kept[1] / "dialogue.wav").exists(), "what is behind a link is somebody else's"
    (line,) = (tmp_path / "deletions.jsonl").read_text().splitlines()
    told = json.loads(line)
    assert told.pop("time").endswith("Z")
    assert told.pop("bytes") > 1000
    named = {"recording": old.name, "session": "0123abcd", "owner": "alice"}
    assert told == {**named, "why": "age", "by": "retention"}
    assert (tmp_path / "deletions.jsonl").stat().st_mode & 0o777 == 0o600


def test_a_folder_that_is_gone_is_an_error_of_one_line(tmp_path):
    retention = Retention(tmp_path / "none", Metrics(), days=1, gigabytes=0)
    with pytest.raises(UsageError, match="give the folder of --record"):
        retention.sweep(tmp_path / "none")


def test_a_file_that_takes_its_final_name_meanwhile_hides_no_recording(tmp_path, monkeypatch):
    """What is written has another name until it is whole."""
    path = made(tmp_path, "20260101-120000-0123abcd")
    (path / "transcript.json.part").touch()
    scandir = os.scandir

    @contextlib.contextmanager
    def then_renamed(folder):
        with scandir(folder) as entries:
            found = list(entries)
        (path / "transcript.json.part").unlink(missing_ok=True)
        yield iter(found)

    monkeypatch.setattr(os, "scandir", then_renamed)
    (found,) = recordings_in(tmp_path)
    assert found.session == "0123abcd"


@pytest.mark.parametrize("about", ["[]", "{", "null", '{"session": 7, "owner": ["x"]}', "[" * 100_000, '"\\ud800"'])
def test_a_damaged_note_makes_a_recording_nobody_s(tmp_path, about):
    path = made(tmp_path, "20260101-120000-0123abcd")
    (path / "call.json").write_text(about)
    (found,) = recordings_in(tmp_path)
    assert found.owner in {"", "['x']"}
    assert not found.being_written(time.time() + 999)


def test_who_shows_a_token_lists_and_deletes_their_own(model, tmp_path):
    settings = Settings(record=tmp_path, tokens=(ALICE, BOB))
    with running(model, settings) as server:
        first, second, other = (talk(server, each) for each in (ALICE, ALICE, BOB))
        assert {each.session: each.owner for each in recorded(tmp_path, 3)} == {
            first: "alice",
            second: "alice",
            other: "bob",
        }
        assert get(server, "/api/recordings")[0] == 401
        assert ask(server, "DELETE", f"/api/recordings/{first}")[0] == 401
        listed = json.loads(get(server, "/api/recordings", **bearer(ALICE))[2])["recordings"]
        assert {each["session"] for each in listed} == {first, second}
        assert ask(server, "DELETE", f"/api/recordings/{other}", **bearer(ALICE))[0] == 404
        assert ask(server, "DELETE", "/api/recordings/..", **bearer(ALICE))[0] in {404, 405}
        assert ask(server, "DELETE", f"/api/recordings/{first}", **bearer(ALICE))[0] == 204
        assert ask(server, "DELETE", f"/api/recordings/{first}", **bearer(ALICE))[0] == 404
        assert {each.session for each in recordings_in(tmp_path)} == {second, other}
        status, _, told = ask(server, "DELETE", "/api/recordings", **bearer(ALICE))
        assert (status, json.loads(told)) == (200, {"deleted": 1, "left": 0})
        assert [each.session for each in recordings_in(tmp_path)] == [other]
        assert 'duplex_recordings_deleted_total{why="caller"} 2.0' in get(server, "/metrics")[2]
    lines = [json.loads(line) for line in (tmp_path / "deletions.jsonl").read_text().splitlines()]
    assert [(each["session"], each["why"], each["by"]) for each in lines] == [
        (first, "caller", "alice"),
        (second, "caller", "alice"),
    ]


def test_a_call_that_goes_on_is_not_deleted_under_its_writer(model, tmp_path):
    with running(model, Settings(record=tmp_path, tokens=(ALICE,))) as server:
        headers = bearer(ALICE)
        with server.call("?format=pcm", additional_headers=headers) as caller:
            caller.until(wire.Kind.AUDIO)
            until(lambda: recordings_in(tmp_path) and recordings_in(tmp_path)[0].session)
            (going_on,) = recordings_in(tmp_path)
            status, _, told = ask(server, "DELETE", f"/api/recordings/{going_on.session}", **headers)
            assert status == 409
            assert "hang up" in told
            assert json.loads(ask(server, "DELETE", "/api/recordings", **headers)[2]) == {"deleted": 0, "left": 1}
            ran = run("recordings", "delete", tmp_path, "--session", going_on.session)
            assert ran.status == 2
            assert "the call goes on" in ran.err
        recorded(tmp_path, 1)
        assert ask(server, "DELETE", f"/api/recordings/{going_on.session}", **headers)[0] == 204


def test_a_call_goes_on_though_its_note_cannot_be_written(model, tmp_path, monkeypatch):
    monkeypatch.setattr("duplex.server.recording.ABOUT", "no folder/call.json")
    with running(model, Settings(record=tmp_path)) as server, server.call("?format=pcm") as caller:
        caller.until(wire.Kind.AUDIO)
        until(lambda: "duplex_recordings_lost_total 1.0" in get(server, "/metrics")[2])
        caller.say(tone(0.3), audio_format="pcm")
        caller.finish()
        assert caller.end()[0] == 1000


def test_without_tokens_nobody_deletes_over_http(model, tmp_path):
    with running(model, Settings(record=tmp_path)) as server:
        session = talk(server)
        recorded(tmp_path, 1)
        assert ask(server, "DELETE", f"/api/recordings/{session}")[0] in {404, 405}
        assert ask(server, "DELETE", "/api/recordings")[0] in {404, 405}
    assert len(recordings_in(tmp_path)) == 1


def test_the_operator_lists_and_deletes(tmp_path):
    made(tmp_path, "20260101-120000-0123abc1", days=40)
    made(tmp_path, "20260102-120000-0123abc2", days=39, owner="bob")
    made(tmp_path, "20260103-120000-0123abc3", days=1)
    assert run("recordings", "list", tmp_path).out.count("MB") == 3
    refused = run("recordings", "delete", tmp_path)
    assert (refused.status, "say which" in refused.err) == (2, True)
    assert run("recordings", "delete", tmp_path, "--session", "none").status == 2
    chosen = ("recordings", "delete", tmp_path, "--owner", "alice", "--older-than", "30")
    assert run(*chosen, "--dry-run").out == "would delete 20260101-120000-0123abc1\n"
    assert run(*chosen).out == "deleted 20260101-120000-0123abc1\n"
    assert run("recordings", "delete", tmp_path, "--session", "0123abc2").out == "deleted 20260102-120000-0123abc2\n"
    assert [each.session for each in recordings_in(tmp_path)] == ["0123abc3"]
    lines = [json.loads(line) for line in (tmp_path / "deletions.jsonl").read_text().splitlines()]
    assert [(each["owner"], each["why"]) for each in lines] == [("alice", "operator"), ("bob", "operator")]


def test_a_folder_that_may_not_be_changed_is_told(tmp_path):
    if os.geteuid() == 0:
        path = made(tmp_path, "20260101-120000-0123abc1")
        (tmp_path / "deletions.jsonl").mkdir()  # what root cannot write either
        ran = run("recordings", "delete", tmp_path, "--session", "0123abc1")
        assert (ran.status, path.exists()) == (1, True), "nothing is deleted that cannot be written down"
        assert "cannot be written" in ran.err


@pytest.fixture
def stuck(monkeypatch):
    """Have the disk refuse to delete some recordings, as it does where a file of theirs is immutable."""
    names, rmtree = set(), shutil.rmtree

    def refusing(path):
        if path.name in names:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(path))
        rmtree(path)

    monkeypatch.setattr(shutil, "rmtree", refusing)
    return names


def test_retention_goes_on_past_what_cannot_be_deleted(tmp_path, stuck):
    names = [f"20260101-120000-0123abc{number}" for number in range(5)]
    for name in names:
        made(tmp_path, name, days=1 if name == names[4] else 40)
    stuck.update({names[0], names[2]})
    metrics = Metrics()
    with pytest.raises(OutputError, match=f"{names[0]} cannot be written.*; 1 more cannot be deleted"):
        Retention(tmp_path, metrics, days=30, gigabytes=0).sweep(tmp_path)
    assert [each.name for each in recordings_in(tmp_path)] == [names[0], names[2], names[4]]
    told = metrics.registry.get_sample_value
    assert told("duplex_recordings_deleted_total", {"why": "age"}) == 2
    assert told("duplex_recordings") == 3
    assert told("duplex_recordings_bytes") > 3000


def test_what_cannot_be_deleted_makes_no_room(tmp_path, stuck):
    paths = [made(tmp_path, f"20260101-120000-0123abc{number}", days=9 - number) for number in range(4)]
    sizes = [each.size for each in recordings_in(tmp_path)]
    stuck.add(paths[0].name)
    with pytest.raises(OutputError, match=paths[0].name):
        Retention(tmp_path, Metrics(), days=0, gigabytes=(sum(sizes) - sizes[1]) / 1e9).sweep(tmp_path)
    assert [path.exists() for path in paths] == [True, False, True, True]


def test_who_deletes_all_of_theirs_keeps_only_what_cannot_be_deleted(model, tmp_path, stuck):
    paths = [made(tmp_path, f"20260101-120000-0123abc{number}") for number in range(3)]
    stuck.add(paths[0].name)
    with running(model, Settings(record=tmp_path, tokens=(ALICE,))) as server:
        status, _, told = ask(server, "DELETE", "/api/recordings", **bearer(ALICE))
        assert (status, "what is left" in told, str(tmp_path) in told) == (500, True, False)
        assert [path.exists() for path in paths] == [True, False, False]
        assert 'duplex_recordings_deleted_total{why="caller"} 2.0' in get(server, "/metrics")[2]
        assert ask(server, "DELETE", "/api/recordings/0123abc0", **bearer(ALICE))[0] == 500


def test_the_operator_deletes_past_what_cannot_be_deleted(tmp_path, stuck):
    names = [made(tmp_path, f"20260101-120000-0123abc{number}").name for number in range(3)]
    stuck.add(names[0])
    ran = run("recordings", "delete", tmp_path, "--owner", "alice")
    assert (ran.status, ran.out) == (1, f"deleted {names[1]}\ndeleted {names[2]}\n")
    assert names[0] in ran.only_error()


def test_who_asks_by_the_dozen_has_one_folder_read_at_a_time(model, tmp_path, monkeypatch):
    reading, seen = [], []

    def slow(_):
        reading.append(True)
        seen.append(len(reading))
        time.sleep(0.02)
        reading.pop()
        return []

    monkeypatch.setattr(recordings_api, "recordings_in", slow)
    with running(model, Settings(record=tmp_path, tokens=(ALICE,))) as server, ThreadPoolExecutor(8) as pool:
        told = pool.map(lambda _: get(server, "/api/recordings", **bearer(ALICE))[0], range(12))
        assert list(told) == [200] * 12
    assert seen == [1] * 12
