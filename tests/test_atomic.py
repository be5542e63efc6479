"""Files that appear whole: what runs that were killed have left is cleared away, and nothing else."""

import contextlib
import sys

import pytest

from duplex.atomic import Hold, atomic_path, atomic_write_text, begin, clear_remains


@pytest.mark.parametrize("name", ["a.json", "[a]*?.json", "ä" * 126 + ".x", "-"])
def test_what_a_killed_run_left_beside_a_file_is_cleared(tmp_path, name):
    target = tmp_path / name
    others = [tmp_path / "a.json.mine.part", tmp_path / "b.json.01234567.part", tmp_path / f"{name[:9]}.part"]
    for path in (target, begin(target), begin(target), *others):
        path.write_text("kept")
    clear_remains(target)
    assert sorted(tmp_path.iterdir()) == sorted({target, *others})


def test_there_is_nothing_to_clear_where_there_is_no_folder(tmp_path):
    clear_remains(tmp_path / "nowhere" / "a.json")
    with atomic_path(tmp_path / "a.json") as part:
        part.write_text("whole")
    clear_remains(tmp_path / "a.json")
    assert (tmp_path / "a.json").read_text() == "whole"


@pytest.mark.skipif(sys.platform == "win32", reason="there, what is open cannot be removed")
def test_what_another_run_writes_now_stays(tmp_path):
    target = tmp_path / "a.json"
    with atomic_path(target) as part:
        part.write_text("whole")
        clear_remains(target)
    assert target.read_text() == "whole"
    with contextlib.closing(Hold(tmp_path)), pytest.raises(BlockingIOError):
        Hold(tmp_path)
    Hold(tmp_path).close()


def test_long_names_that_begin_alike_have_parts_of_their_own(tmp_path):
    one, other = (tmp_path / f"{'a' * 250}{end}" for end in "xy")
    left = begin(one)
    left.touch()
    clear_remains(other)
    assert left.exists()
    clear_remains(one)
    assert not left.exists()


def test_who_interrupts_while_the_disk_is_waited_for_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        atomic_write_text(tmp_path / "a.json", "{}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such rights")
def test_a_secret_is_nobody_else_s_from_the_first_moment(tmp_path):
    with atomic_path(tmp_path / "key.pem", mode=0o600) as part:
        assert part.stat().st_mode & 0o777 == 0o600
        part.write_bytes(b"secret")
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
