"""Repositories of a hub: a local stand-in that speaks the part of the protocol which downloads need."""

import json

import pytest
from hub_support import API, FILE, FIRST, REPOSITORY, Handler, Hub, Server, fails, go_offline, hub, use_endpoint  # noqa: F401
from safetensors.numpy import save
from test_checkpoint import LEGACY_TOKENIZER, MIMI, MIMI_CONFIG, TOKENIZER, checkpoint_files, weights, write

import duplex.checkpoints.hub_client
from duplex.checkpoints.checkpoint import resolve
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.errors import CheckpointNotFoundError, UsageError

SECOND = "2" * 40


def test_download(hub):
    checkpoint = resolve(REPOSITORY)
    assert checkpoint.name == REPOSITORY
    assert checkpoint.revision == FIRST
    assert checkpoint.weights.read_bytes() == checkpoint_files()["model.safetensors"]
    assert checkpoint.mimi_weights.read_bytes() == checkpoint_files()[MIMI]
    assert checkpoint.tokenizer.read_bytes() == TOKENIZER
    order = ["config.json", "mimi_config.json", "spm.model", MIMI, "model.safetensors"]
    assert hub.downloads() == order


def test_the_second_run_only_asks_for_the_commit(hub):
    first = resolve(REPOSITORY)
    hub.requests.clear()
    assert resolve(REPOSITORY) == first
    assert [path.split("?")[0] for _, path in hub.requests] == [f"/api/models/{REPOSITORY}"]


def test_a_cached_commit_asks_nothing(hub):
    assert resolve(REPOSITORY, revision=FIRST).revision == FIRST
    hub.requests.clear()
    checkpoint = resolve(REPOSITORY, revision=FIRST)
    assert checkpoint.revision == FIRST
    assert [path for _, path in hub.requests if "resolve" in path] == []


CARD = b"---\nwidget:\n  - text: Who are you?\n---\n"


def test_the_model_card_is_downloaded_for_who_asks(hub):
    hub.add({**checkpoint_files(), "README.md": CARD})
    card = resolve(REPOSITORY).card
    assert "README.md" not in hub.downloads()
    assert card.examples == ("Who are you?",)
    assert hub.downloads()[-1] == "README.md"


def test_a_model_card_that_cannot_be_downloaded(hub):
    """It is no reason not to talk."""
    hub.add({**checkpoint_files(), "README.md": CARD})
    hub.status = {f"/{REPOSITORY}/resolve/{FIRST}/README.md": 403}
    assert resolve(REPOSITORY).card.examples == ()


@pytest.mark.parametrize("progress", [True, False])
def test_progress_bars(hub, progress, monkeypatch, capfd):
    monkeypatch.setenv("TQDM_POSITION", "-1")  # the hub client's way to ask for bars without a terminal
    resolve(REPOSITORY, progress=progress)
    assert ("model.safetensors" in capfd.readouterr().err) is progress
    assert hub.downloads()


def test_the_codec_alone(hub):
    checkpoint = resolve(REPOSITORY, parts=("codec",))
    assert checkpoint.weights is None
    assert hub.downloads() == ["config.json", "mimi_config.json", MIMI]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"device": "teapot"}, "no device 'teapot'"),
        ({"device": None}, "no device None"),
        ({"device": "mps"}, "runs on 'cpu' and 'cuda'"),
        ({"dtype": "float8"}, "'float8' is not known"),
        ({"quantize": "int3"}, "quantize='int3' is not known"),
        ({"quantize": "fp8"}, "needs a GPU of compute capability 8.9"),
        ({"cache_dtype": "int4"}, "cache_dtype 'int4' is not known"),
        ({"backend": "abacus"}, "no backend 'abacus'"),
        ({"sessions": 0}, "sessions is 0"),
        ({"sessions": 2.5}, "sessions is 2.5; give a whole number"),
        ({"sessions": "2"}, "sessions is '2'; give a whole number"),
    ],
)
def test_wrong_choices_are_told_before_anything_is_downloaded(hub, options, match):
    with pytest.raises(UsageError, match=match):
        duplex.load(REPOSITORY, **options)
    if set(options) <= {"device", "backend"}:
        with pytest.raises(UsageError, match=match):
            duplex.load_codec(REPOSITORY, **options)
    assert not hub.requests


def test_a_revision(hub):
    hub.add(checkpoint_files(context=21), SECOND, "v2")
    checkpoint = resolve(REPOSITORY, revision="v2")
    assert (checkpoint.revision, checkpoint.language_model.context) == (SECOND, 21)
    assert resolve(REPOSITORY).revision == FIRST
    fails(CheckpointNotFoundError, "no such revision", revision="v3")
    fails(CheckpointNotFoundError, "no revision", revision="../../x")


def test_a_branch_that_moved(hub, monkeypatch):
    resolve(REPOSITORY)
    hub.add(checkpoint_files(context=21), SECOND)
    assert resolve(REPOSITORY).revision == SECOND
    go_offline(monkeypatch)
    assert resolve(REPOSITORY).revision == SECOND
    assert resolve(REPOSITORY, revision=FIRST).language_model.context == 20


def test_which_commit_it_was_is_written_whole_and_only_if_it_changed(hub, tmp_path):
    """Another process may read it at any moment."""
    resolve(REPOSITORY)
    (ref,) = (tmp_path / "cache").glob("*/refs/main")
    before = ref.stat()
    resolve(REPOSITORY)
    assert (ref.stat().st_ino, ref.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    with ref.open() as reader:
        hub.add(checkpoint_files(context=21), SECOND)
        resolve(REPOSITORY)
        assert reader.read() == FIRST
    assert ref.read_text() == SECOND
    assert list(ref.parent.iterdir()) == [ref]


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("content", [b"", b"\xff"])
def test_a_damaged_note_of_the_commit_is_written_anew(tmp_path, content):
    resolve(REPOSITORY)
    (ref,) = (tmp_path / "cache").glob("*/refs/main")
    ref.write_bytes(content)
    assert resolve(REPOSITORY).revision == ref.read_text() == FIRST


def test_without_config_it_is_moshi_7b(hub, monkeypatch):
    hub.add({"model.safetensors": save(weights()), MIMI: save(weights()), LEGACY_TOKENIZER: TOKENIZER})
    assert resolve(REPOSITORY).language_model == LanguageModelConfig()
    go_offline(monkeypatch)
    assert resolve(REPOSITORY).language_model == LanguageModelConfig()


def test_files_of_another_repository(hub, monkeypatch):
    hub.add({"codec/mimi.safetensors": save(weights(7))}, repository="somebody/mimi")
    hub.add({"mimi.safetensors": save(weights(8))}, SECOND, "v2", repository="somebody/mimi")
    hub.add(checkpoint_files(mimi_name="hf://somebody/mimi/codec/mimi.safetensors"))
    hub.add(checkpoint_files(mimi_name="hf://somebody/mimi@v2/mimi.safetensors"), SECOND, "next")
    for _ in range(2):
        assert resolve(REPOSITORY).mimi_weights.read_bytes() == save(weights(7))
        assert resolve(REPOSITORY, revision="next").mimi_weights.read_bytes() == save(weights(8))
        go_offline(monkeypatch)


def test_a_folder_with_files_of_the_hub(hub, monkeypatch, tmp_path):
    hub.add({"mimi.safetensors": save(weights(7)), "c.json": json.dumps(MIMI_CONFIG).encode()}, repository="x/mimi")
    names = {"mimi_name": "hf://x/mimi/mimi.safetensors", "mimi_config_name": "hf://x/mimi/c.json"}
    folder = write(tmp_path / "model", checkpoint_files(**names))
    for _ in range(2):
        assert resolve(str(folder)).mimi_weights.read_bytes() == save(weights(7))
        go_offline(monkeypatch)


def test_a_file_that_the_repository_has_not(hub):
    files = checkpoint_files()
    del files["spm.model"]
    hub.add(files)
    fails(CheckpointNotFoundError, "the tokenizer 'spm.model' is missing.*'tokenizer_name'")
    assert MIMI not in hub.downloads()
