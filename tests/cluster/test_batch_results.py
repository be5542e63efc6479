"""Rows, the table, and stores of results. No cluster is needed."""

import json

import pyarrow.parquet
import pytest

from duplex.cluster.batch.places import SharedFolder, Store, place_of
from duplex.cluster.batch.rows import Row, write_table
from duplex.cluster.batch.stages import _block_size
from duplex.cluster.batch.tally import Tally
from duplex.errors import AudioFileError, OutputError


def row(index, status="done", **more):
    named = {"name": f"n{index}", "input": f"i{index}", "results": f"n{index}"}
    return Row(index=index, status=status, **named | more)


def test_the_table_is_one_file_in_the_order_of_the_inputs_and_finished_rows_are_done(tmp_path):
    rows = [row(2, "skipped", figures={"text": "x"}), row(1, "failed", error=AudioFileError("broken")), row(0)]
    write_table(tmp_path / "t.parquet", rows, {"text": str})
    table = pyarrow.parquet.read_table(tmp_path / "t.parquet").to_pylist()
    assert [each["name"] for each in table] == ["n0", "n1", "n2"]
    assert [each["status"] for each in table] == ["done", "failed", "done"]
    assert [each["error"] for each in table] == [None, "broken", None]
    assert [each["text"] for each in table] == [None, None, "x"]


def test_names_that_are_no_text_and_no_rows_at_all_make_a_table(tmp_path):
    write_table(
        tmp_path / "t.parquet", [row(0, "failed", name="\udcff", input="\udcff.wav", error=OSError(28, "full"))], {}
    )
    (only,) = pyarrow.parquet.read_table(tmp_path / "t.parquet").to_pylist()
    assert only["name"] == "?"
    assert only["error"].startswith("OSError: ")
    write_table(tmp_path / "none.parquet", [], {"cut_short": bool})
    assert pyarrow.parquet.read_table(tmp_path / "none.parquet").num_rows == 0


class UnsendableError(Exception):
    """Has an argument that no other process can be sent."""

    def __reduce__(self):
        raise TypeError


def test_an_error_that_cannot_be_sent_is_told_all_the_same():
    import pickle  # noqa: PLC0415

    sent = pickle.loads(row(0, "failed", error=UnsendableError("why")).packed())  # noqa: S301
    assert "UnsendableError: why" in str(sent.error)


@pytest.fixture
def store(tmp_path):
    return Store((tmp_path / "bucket").as_uri()), tmp_path / "bucket"


def test_a_store_gets_the_marker_last_and_gives_small_files_back(store, tmp_path):
    place, bucket = store
    place.prepare()
    work = tmp_path / "work"
    (work / "a").mkdir(parents=True)
    (work / "a" / "run.json").write_text(json.dumps({"files": ["agent.wav", "transcript.json"]}))
    (work / "a" / "agent.wav").write_bytes(b"sound")
    (work / "a" / "transcript.json").write_text("{}")
    place.publish(work, ["a/agent.wav", "a/transcript.json", "a/run.json"])
    assert (bucket / "a" / "agent.wav").read_bytes() == b"sound"
    with place.opened(["a/run.json", "b/run.json"]) as seen:
        assert (seen / "a" / "transcript.json").read_text() == "{}"
        assert (seen / "a" / "agent.wav").read_bytes() == b""  # it matters only that it is there
        assert not (seen / "b" / "run.json").exists()
    (bucket / "a" / "agent.wav").unlink()
    with place.opened(["a/run.json"]) as seen:
        assert not (seen / "a" / "agent.wav").exists()


def test_an_upload_that_fails_leaves_no_marker_of_the_run_before(store, tmp_path):
    place, bucket = store
    (bucket / "a").mkdir(parents=True)
    (bucket / "a" / "run.json").write_text("old")
    with pytest.raises(OutputError, match=r"run\.json"):
        place.publish(tmp_path, ["a/missing.wav", "a/run.json"])
    assert not (bucket / "a" / "run.json").exists()


def test_a_folder_is_known_by_a_sign_in_it(tmp_path):
    place = place_of(str(tmp_path / "out"))
    sign = place.prepare()
    assert place.sees(sign)
    assert not SharedFolder(tmp_path).sees(sign)
    place.forget(sign)
    assert list((tmp_path / "out").iterdir()) == []


def test_the_tally_counts_seconds_and_beginnings_and_passes_on_the_stop():
    tally = Tally()
    assert [tally.begin("a"), tally.begin("b"), tally.begin("a")] == [1, 1, 2]
    assert not tally.report("x", 1.0)
    tally.report("y", 2.0)
    tally.report("x", 4.0)
    assert tally.seconds() == 6.0
    tally.stop()
    assert tally.report("x", 4.0)


@pytest.mark.parametrize(
    ("count", "workers", "places", "size"), [(200, 2, 8, 25), (10, 2, 8, 5), (1_000_000, 8, 8, 32), (1, 4, 8, 1)]
)
def test_a_block_fills_the_places_and_leaves_some_for_others(count, workers, places, size):
    assert _block_size(count, workers, places) == size
