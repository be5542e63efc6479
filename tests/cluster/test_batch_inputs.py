"""What a run on a cluster is given: shards, addresses, manifests, and what each is called. No cluster is needed."""

import functools
import http.server
import json
import threading
from pathlib import PurePath

import pytest
from batch_support import wav_bytes, write_shard

from cli_support import vanishing
from duplex.cluster.batch import MeasureJob, ProcessJob
from duplex.cluster.batch.inputs import far_of, split
from duplex.cluster.batch.items import Item, fetched
from duplex.cluster.batch.shards import expand_braces, list_shard
from duplex.errors import AudioFileError, UsageError
from duplex.options import SessionOptions
from duplex.process import Recipe

JOB = ProcessJob(recipe=Recipe(model="tiny", options=SessionOptions(seed=0)), load={"sessions": 2}, small=True)


def found(inputs, job=JOB):
    """What a job finds, with shards listed in this process."""
    given = split(str(each) for each in inputs)
    listed = []
    for address, _ in given.shards:
        try:
            listed.append(list_shard(address))
        except AudioFileError as error:
            listed.append(error)
    return job.find(given.local, far_of(given, listed), "out", None)


def named(inputs, job=JOB):
    return [each.payload.name.as_posix() for each in found(inputs, job)]


def contents(everything):
    """The bytes of each, as a worker would fetch them; the message of what cannot be."""
    items = [Item(index=index, name=str(index), found=each) for index, each in enumerate(everything)]
    with fetched(items) as payloads:
        return [str(each) if isinstance(each, Exception) else each.content.read_bytes() for each in payloads]


def test_members_of_a_shard_are_recordings_named_by_sample_and_read_at_their_place(tmp_path):
    sounds = [wav_bytes(seed) for seed in range(4)]
    members = {"a.wav": sounds[0], "a.json": b"{}", "deep/b.user.wav": sounds[1], "deep/b.agent.wav": sounds[2]}
    shard = write_shard(tmp_path / "s-0.tar", {**members, "../../c.wav": sounds[3], "notes.txt": b"-"})
    everything = found([shard])
    names = [each.payload.name.as_posix() for each in everything]
    assert names == ["s-0/a", "s-0/deep/b.user", "s-0/deep/b.agent", "s-0/c"]
    assert contents(everything) == sounds
    assert everything[0].payload.place == f"{shard}/a.wav"


def test_shards_are_found_by_pattern_braces_and_folder_beside_other_recordings(tmp_path):
    for number in range(3):
        write_shard(tmp_path / f"s-{number:02}.tar", {"x.wav": wav_bytes(number)})
    (tmp_path / "alone.wav").write_bytes(wav_bytes(9))
    assert named([tmp_path / "s-*.tar"]) == ["s-00/x", "s-01/x", "s-02/x"]
    assert named([tmp_path / "s-{00..01}.tar"]) == ["s-00/x", "s-01/x"]
    assert sorted(named([tmp_path])) == ["alone", "s-00/x", "s-01/x", "s-02/x"]


def test_shards_are_found_in_linked_folders_and_while_others_vanish(tmp_path, monkeypatch):
    (tmp_path / "given" / "going").mkdir(parents=True)
    (tmp_path / "else").mkdir()
    write_shard(tmp_path / "else" / "s.tar", {"x.wav": wav_bytes(0)})
    (tmp_path / "given" / "link").symlink_to(tmp_path / "else")
    vanishing(monkeypatch, tmp_path / "given" / "going", tmp_path / "gone")
    assert named([tmp_path / "given"]) == ["link/s/x"]


def test_braces_count_with_their_zeros():
    assert expand_braces("a-{008..010}-{1..2}.tar") == [
        f"a-{number}-{part}.tar" for number in ("008", "009", "010") for part in (1, 2)
    ]


@pytest.mark.parametrize("kind", ["compressed", "no archive", "empty", "missing"])
def test_a_shard_that_cannot_be_read_is_one_failure_and_the_others_are_there(tmp_path, kind):
    write_shard(tmp_path / "good.tar", {"x.wav": wav_bytes(0)})
    bad = tmp_path / "bad.tar"
    if kind == "compressed":
        write_shard(bad, {"x.wav": wav_bytes(0)}, "w:gz")
    elif kind == "no archive":
        bad.write_bytes(b"no archive" * 1000)
    elif kind == "empty":
        write_shard(bad, {})
    good, failed = found([tmp_path / "good.tar", bad])
    assert good.problem is None
    assert str(bad) in str(failed.problem)


def test_a_shard_that_ends_early_fails_its_last_recording_only(tmp_path):
    shard = write_shard(tmp_path / "s.tar", {"a.wav": wav_bytes(0), "b.wav": wav_bytes(1)})
    everything = found([shard])
    shard.write_bytes(shard.read_bytes()[:30_000])
    first, second = contents(everything)
    assert first == wav_bytes(0)
    assert "ends within b.wav" in second


def test_recordings_of_a_web_server_and_of_a_store_are_fetched_and_keep_their_address(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.wav").write_bytes(wav_bytes(0))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/deep/a.wav"
        everything = [*found([address]), *found([tmp_path.as_uri()]), *found([f"{tmp_path.as_uri()}/**/*.wav"])]
        assert contents(everything) == [wav_bytes(0)] * 3
        server.shutdown()
    assert [each.payload.name.as_posix() for each in everything] == ["a", "deep/a", "deep/a"]
    assert everything[0].payload.place == address


def test_what_is_not_at_an_address_is_told_by_its_address(tmp_path):
    (message,) = contents(found([f"{tmp_path.as_uri()}/none.wav"]))
    assert "none.wav is not there" in message


@pytest.mark.parametrize(("given", "told"), [("-", "pipe"), ("nosuch://x/a.wav", "no address")])
def test_what_no_worker_can_read_is_refused(given, told):
    with pytest.raises(UsageError, match=told):
        split([given])


def test_entries_of_manifests_are_recordings_with_their_stretch_and_addresses_stay_addresses(tmp_path):
    lines = [
        {"audio_filepath": "a.wav", "offset": 0.1, "duration": 0.2},
        {"audio_filepath": f"{tmp_path.as_uri()}/a.wav"},
        {"audio_filepath": ["left.wav", "right.wav"]},
        {"nothing": 1},
    ]
    (tmp_path / "a.wav").write_bytes(wav_bytes(0))
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    cut, far, left, right, broken = sorted(found([tmp_path / "m.jsonl"]), key=lambda each: each.problem is not None)
    assert cut.payload.stretch == pytest.approx((0.1, 0.3))
    assert contents([far]) == [wav_bytes(0)]
    assert [each.payload.name.name for each in (left, right)] == ["user-left", "user-right"]
    assert "line 4" in str(broken.problem)


def test_a_list_names_recordings_and_turns_are_nothing_to_hear(tmp_path):
    (tmp_path / "a-left.wav").write_bytes(wav_bytes(0))
    (tmp_path / "a-right.wav").write_bytes(wav_bytes(1))
    (tmp_path / "list.txt").write_text("a-left.wav\na-right.wav\n")
    (tmp_path / "turns.rttm").write_text("SPEAKER a 1 0 1 <NA> <NA> x <NA> <NA>\n")
    assert named([tmp_path / "list.txt"]) == ["a-left", "a-right"]
    (turns,) = found([tmp_path / "turns.rttm"])
    assert "nothing to hear" in str(turns.problem)


def test_dialogues_in_shards_are_stereo_files_or_pairs(tmp_path):
    stereo = wav_bytes(0, channels=2)
    members = {"both.wav": stereo, "both.json": b"{}", "p-left.wav": wav_bytes(1), "p-right.wav": wav_bytes(2)}
    shard = write_shard(tmp_path / "s.tar", members)
    both, pair = found([shard], MeasureJob())
    assert (both.payload.kind, both.payload.name) == ("stereo", PurePath("s/both"))
    assert both.transcript.member == "both.json"
    assert (pair.payload.kind, pair.payload.name) == ("pair", PurePath("s/p"))
    assert [each.label for each in pair.stored] == [f"{shard}/p-left.wav", f"{shard}/p-right.wav"]


def test_both_sides_are_items_of_their_own(tmp_path):
    (tmp_path / "a.wav").write_bytes(wav_bytes(0, channels=2))
    job = ProcessJob(recipe=JOB.recipe, load={}, both=True)
    assert named([tmp_path / "a.wav"], job) == ["a/user-left", "a/user-right"]
