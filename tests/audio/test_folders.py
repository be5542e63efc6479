"""What is found in a folder while others make, link and delete what is in it."""

import os

import pytest

from cli_support import vanishing
from duplex.audio.folders import walk


def files_in(folder, **options):
    """Return the files that are found, relative to the folder."""
    return sorted(
        (above / name).relative_to(folder).as_posix() for above, names in walk(folder, **options) for name in names
    )


@pytest.fixture
def tree(tmp_path):
    """Two folders with a file each, and a file beside them."""
    for name in ("one/a.txt", "two/b.txt", "c.txt"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "tree"


def test_a_folder_that_vanishes_meanwhile_is_told_and_the_others_are_found(tree, tmp_path, monkeypatch):
    vanishing(monkeypatch, tree / "one", tmp_path / "gone")
    unsearched = []
    assert files_in(tree, unsearched=unsearched.append) == ["c.txt", "two/b.txt"]
    assert unsearched == [tree / "one"]


def test_a_folder_that_is_gone_or_a_file_has_nothing_in_it(tree):
    assert files_in(tree / "none") == []
    assert files_in(tree / "c.txt") == []


def test_links_are_followed_once_after_what_is_really_there(tree, tmp_path):
    (tree.rename(tmp_path / "real") / "circle").symlink_to(tmp_path / "real")
    tree.mkdir()
    for name in ("again", "linked"):
        (tree / name).symlink_to(tmp_path / "real")
    (tree / "nowhere").symlink_to(tmp_path / "none")
    assert [name.partition("/")[2] for name in files_in(tree)] == ["c.txt", "one/a.txt", "two/b.txt", ""]


def test_what_is_hidden_or_left_out_is_not_looked_at(tree):
    (tree / ".hidden").mkdir()
    (tree / ".hidden" / "d.txt").touch()
    (tree / ".e.txt").touch()
    assert files_in(tree, leave_out=lambda path: path.name in {"two", "c.txt"}) == ["one/a.txt"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="who may do everything is refused nothing")
def test_a_folder_that_may_not_be_entered_is_told(tree):
    (tree / "one").chmod(0)
    unsearched = []
    assert files_in(tree, unsearched=unsearched.append) == ["c.txt", "two/b.txt"]
    assert unsearched == [tree / "one"]
    (tree / "one").chmod(0o700)
