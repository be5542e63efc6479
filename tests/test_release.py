"""A release is held against its tag before anything is uploaded."""

import sys
from pathlib import Path

import pytest

import duplex

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))

from check_release import faults, own_version

CHANGELOG = "# Changelog\n\n## [Unreleased]\n\n## [1.2.3] - 2027-01-31\n"
BUILT = {"duplex_speech-1.2.3-py3-none-any.whl", "duplex_speech-1.2.3.tar.gz"}


def test_a_release_without_a_fault():
    assert list(faults("v1.2.3", "1.2.3", CHANGELOG, BUILT)) == []


@pytest.mark.parametrize(
    ("tag", "changelog", "built", "told"),
    [
        ("1.2.3", CHANGELOG, BUILT, "the tag is 1.2.3"),
        ("v1.2.4", CHANGELOG, BUILT, "the tag is v1.2.4"),
        ("v1.2.3", CHANGELOG.replace("1.2.3", "1.2.2"), BUILT, "no section"),
        ("v1.2.3", CHANGELOG.replace("1.2.3", "1x2.3"), BUILT, "no section"),
        ("v1.2.3", CHANGELOG.replace(" - 2027-01-31", ""), BUILT, "no section"),
        ("v1.2.3", CHANGELOG, set(), "make dist"),
        ("v1.2.3", CHANGELOG, BUILT | {"duplex_speech-1.2.2.tar.gz"}, "make dist"),
    ],
)
def test_what_keeps_a_tag_from_being_released(tag, changelog, built, told):
    (found,) = faults(tag, "1.2.3", changelog, built)
    assert told in found


def test_the_version_is_read_without_importing():
    assert own_version(Path(duplex.__file__).read_text(encoding="utf-8")) == duplex.__version__
    assert own_version("nothing") == ""
