"""Full-Duplex-Bench: its layout, its figures, and what is written into it."""

import json
import shutil
import wave
from pathlib import Path

import pytest

import duplex
from cli_support import noise, run, vanishing, write_wav
from duplex.errors import OutputError, UsageError
from duplex.evaluating import evaluate, find_samples
from duplex.evaluating.judging import backchannels, distance, joined, overlaps, responses, took_over
from duplex.evaluating.outputs import check_outputs, counted, write_outputs

QUESTION = Path(__file__).parents[2] / "examples" / "question.wav"
ANNOTATIONS = {
    "pauses": ("pause.json", [{"text": "[PAUSE]", "timestamp": [1.0, 1.5]}]),
    "turns": ("turn_taking.json", [{"text": "[TURN-TAKING]", "timestamp": [2.0, 2.4]}]),
    "interruptions": ("interrupt.json", [{"context": "a", "interrupt": "b", "timestamp": [1.0, 2.0]}]),
    "user_backchannel": ("metadata.json", {"context_text": "", "current_turn_text": "", "timestamps": [1.0, 2.0]}),
    "icc_backchannel": (None, None),
}


def words(*times):
    return [{"text": "word", "timestamp": list(each)} for each in times]


@pytest.fixture
def bench(tmp_path):
    """A benchmark of one sample a task."""
    for task, (name, content) in ANNOTATIONS.items():
        folder = tmp_path / "bench" / task / "1"
        folder.mkdir(parents=True)
        shutil.copy(QUESTION, folder / "input.wav")
        if name:
            (folder / name).write_text(json.dumps(content))
        if name == "metadata.json":
            shutil.copy(QUESTION, folder / "clean_input.wav")
    return tmp_path / "bench"


@pytest.mark.parametrize(
    ("said", "taken"),
    [
        ([], False),
        (words((0, 0.9)), False),
        (words((0, 0.2), (0.3, 0.5), (0.6, 0.9)), False),
        (words((0, 0.2), (0.3, 0.4), (0.5, 0.6), (0.7, 0.8)), True),
        (words((0, 1.0)), True),
        (words((0, 0.2), (1.5, 1.6)), True),
    ],
)
def test_a_turn_is_taken_with_four_words_or_a_second(said, taken):
    assert took_over(said) is taken


def test_backchannels_are_short():
    assert backchannels([], []) == (False, [])
    assert backchannels([(0, 0.5), (2, 2.6)], words((0, 0.4))) == (False, [(0, 0.5), (2, 2.6)])
    assert backchannels([(0, 0.5), (2, 5.5)], []) == (True, [(0, 0.5)])
    assert backchannels([(0, 1.5)], [])[0]
    assert backchannels([(0, 0.9)], words((0, 0.1), (0.2, 0.3), (0.4, 0.5)))[0]


def test_the_distance_is_zero_for_the_same_distribution():
    assert distance([], 10.0, [0.5, 0.5]) == 1.0
    human = [1.0 if 5 <= place <= 7 else 1e-10 for place in range(51)]
    assert distance([(1.0, 1.5)], 10.0, human) == pytest.approx(0.0, abs=1e-4)
    assert distance([(8.0, 8.5)], 10.0, human) == pytest.approx(0.8326, abs=1e-3)  # the root of ln 2: nothing in common


def test_overlaps_and_responses():
    assert joined([(0, 1), (1.5, 2), (3, 4)], 0.6) == [(0, 2), (3, 4)]
    assert overlaps([(0, 2)], [(1.5, 3), (10, 11)]) == [0.5]
    assert responses([(0, 1), (2, 3)], [(4, 5), (9, 10)]) == [1.0]  # of the last user's turn before it


@pytest.mark.anyio
@pytest.mark.slow
async def test_a_benchmark(bench, tmp_path):
    with duplex.load("tiny", sessions=3) as model:
        content = await evaluate(model, bench, tmp_path / "out", human={"1": [0.1] * 20})
        assert content["words"] == "inner monologue"
        figures = content["figures"]
        assert {name: each["task"] for name, each in figures.items()} == {
            "icc_backchannel": "backchannel",
            "interruptions": "user_interruption",
            "pauses": "pause_handling",
            "turns": "smooth_turn_taking",
            "user_backchannel": "overlap",
        }
        assert 0 <= figures["icc_backchannel"]["jsd"] <= 1
        after = json.loads((bench / "interruptions" / "1" / "output.json").read_text())["chunks"]
        assert after
        assert all(chunk["timestamp"][0] >= 2.0 for chunk in after)
        clean = json.loads((bench / "user_backchannel" / "1" / "clean_output.json").read_text())
        assert clean["chunks"]
        again = await evaluate(model, bench, tmp_path / "out", human={"1": [0.1] * 20})
        assert again["figures"] == figures
        with pytest.raises(OutputError, match="--force"):
            await evaluate(model, bench, tmp_path / "elsewhere")


def test_outputs_are_as_the_authors_scripts_read_them(bench, tmp_path):
    """Of sound they take every sample for one of 16 kHz; each sound has its words beside it."""
    (sample,) = find_samples(bench / "user_backchannel")
    results = {name: tmp_path / Path(name).stem for name in sample.inputs}
    for seed, folder in enumerate(results.values()):
        write_wav(folder / "agent.wav", noise(0.8, seed=seed))
    said = {name: words((0.1, 0.3)) for name in results}
    check_outputs(sample, results)
    write_outputs(sample, results, said)
    assert sorted(path.name for path in sample.folder.iterdir()) == [
        *("clean_input.wav", "clean_output.json", "clean_output.wav"),
        *("input.wav", "metadata.json", "output.json", "output.wav"),
    ]
    with wave.open(str(sample.folder / "output.wav")) as sound:
        assert (sound.getframerate(), sound.getnframes()) == (16000, 12800)
    assert json.loads((sample.folder / "clean_output.json").read_text())["chunks"] == said["clean_input.wav"]
    check_outputs(sample, results)
    write_wav(results["clean_input.wav"] / "agent.wav", noise(0.8, seed=7))
    with pytest.raises(OutputError, match=r"clean_output\.wav was written by something else"):
        check_outputs(sample, results)


def test_after_an_interruption_only_later_words_count(bench):
    (sample,) = find_samples(bench / "interruptions")
    assert counted(sample, words((0.5, 0.9), (1.9, 2.4), (2.0, 2.2))) == words((2.0, 2.2))


@pytest.mark.parametrize("wrong", ["no folder", "empty", "no input", "no clean input", "no annotation", "no times"])
def test_another_layout_is_told(bench, wrong, tmp_path):
    folder = bench
    if wrong == "no folder":
        folder = tmp_path / "nowhere"
    elif wrong == "empty":
        (folder := tmp_path / "empty").mkdir()
    elif wrong == "no input":
        (bench / "turns" / "1" / "input.wav").unlink()
    elif wrong == "no clean input":
        (bench / "user_backchannel" / "1" / "clean_input.wav").unlink()
    elif wrong == "no annotation":
        (bench / "pauses" / "1" / "pause.json").unlink()
    else:
        (bench / "turns" / "1" / "turn_taking.json").write_text("[]")
    with pytest.raises(UsageError):
        find_samples(folder)


def test_a_benchmark_of_linked_samples_and_one_that_vanishes_meanwhile(bench, tmp_path, monkeypatch):
    (tmp_path / "linked").mkdir()
    for task in ("turns", "pauses"):
        (tmp_path / "linked" / task).symlink_to(bench / task)
    vanishing(monkeypatch, tmp_path / "linked" / "pauses" / "1", tmp_path / "gone")
    assert [each.task for each in find_samples(tmp_path / "linked")] == ["smooth_turn_taking"]


def test_the_command_tells_what_is_missing(tmp_path):
    result = run("evaluate", "full-duplex-bench", tmp_path)
    assert result.status == 2
    assert "no samples" in result.err
