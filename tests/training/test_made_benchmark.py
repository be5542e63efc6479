"""The benchmark that synthesizers make: its layout is the published one, and its times are exact."""

import json
import shutil

import numpy as np
import pytest

from cli_support import RATE, read_wav, run
from duplex.audio.pcm import level_dbfs
from duplex.errors import OutputError
from duplex.evaluating import find_samples, read_distribution
from duplex.training.dialogues.benchmark import DISTRIBUTION, write_benchmark

pytestmark = pytest.mark.skipif(
    not (shutil.which("espeak-ng") and shutil.which("flite")), reason="espeak-ng and flite are not installed"
)
QUIET = -50.0


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "bench"
    assert write_benchmark(folder, 2) == 16
    return folder


def sound(sample, name="input.wav"):
    return read_wav(sample.folder / name).ravel().astype(np.float32) / 32768


def level(pcm, start, end):
    return level_dbfs(pcm[round(start * RATE) : round(end * RATE)])


def test_its_layout_is_the_published_one(made):
    samples = find_samples(made)
    assert len(samples) == 16
    tasks = {sample.subset: sample.task for sample in samples}
    assert tasks == {
        "synthetic_pause_handling": "pause_handling",
        "icc_backchannel": "backchannel",
        "synthetic_turn_taking": "smooth_turn_taking",
        "synthetic_user_interruption": "user_interruption",
        **dict.fromkeys(("user_interruption", "user_backchannel", "talking_to_other", "background_speech"), "overlap"),
    }


def test_its_times_are_exact(made):
    for sample in find_samples(made):
        pcm = sound(sample)
        if sample.task == "pause_handling":
            start, end = sample.span
            assert level(pcm, start, end) < QUIET
            assert min(level(pcm, start - 0.1, start), level(pcm, end, end + 0.1)) > QUIET
            assert level(pcm, len(pcm) / RATE - 0.1, len(pcm) / RATE) > QUIET
        elif sample.task == "smooth_turn_taking":
            start, end = sample.span
            assert level(pcm, start, end) < QUIET
            assert level(pcm, start - 0.1, start) > QUIET
            assert end == pytest.approx(len(pcm) / RATE, abs=1e-3)
        elif sample.task in {"user_interruption", "overlap"}:
            start, end = sample.span
            assert level(pcm, start - 0.2, start) < QUIET
            assert level(pcm, start, end) > QUIET
            assert level(pcm, end + 0.02, len(pcm) / RATE) < QUIET
        if sample.task == "overlap":
            clean = sound(sample, "clean_input.wav")
            start = round(sample.span[0] * RATE)
            assert (clean[:start] == pcm[:start]).all()
            assert level_dbfs(clean[start:]) < QUIET


def test_people_give_backchannels_in_the_breaths(made):
    human = read_distribution(made / DISTRIBUTION)
    for sample in find_samples(made / "icc_backchannel"):
        expected, pcm = human[sample.folder.name], sound(sample)
        assert len(expected) == int(len(pcm) / RATE / 0.2) + 1
        assert sum(expected) == pytest.approx(1.0)
        begins = [index for index in range(1, len(expected)) if expected[index] > 1e-3 > expected[index - 1]]
        assert len(begins) == 4
        assert all(level(pcm, (index + 1) * 0.2, (index + 2) * 0.2) < QUIET for index in begins)


def test_the_same_seed_makes_the_same_and_nothing_is_mixed(made, tmp_path):
    again = run("evaluate", "make-full-duplex-bench", tmp_path / "again", "--samples", 1)
    assert again.status == 0, again.err
    for sample in find_samples(tmp_path / "again"):
        twin = made / sample.folder.relative_to(tmp_path / "again")
        assert all((twin / path.name).read_bytes() == path.read_bytes() for path in sample.folder.iterdir())
    with pytest.raises(OutputError, match="not empty"):
        write_benchmark(made, 1)
    (other,) = find_samples(made / "synthetic_turn_taking" / "2")
    assert json.loads((other.folder / "turn_taking.json").read_text())[0]["timestamp"][0] == other.span[0]
