"""A hub that is down, slow, closed or damaged, and what is done about it."""

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hub_support import API, FILE, FIRST, REPOSITORY, Handler, Hub, Server, fails, go_offline, hub, use_endpoint  # noqa: F401
from huggingface_hub import constants
from safetensors.numpy import save
from test_checkpoint import OTHER_KEYS, checkpoint_files, weights

import duplex.checkpoints.hub_client
from duplex.checkpoints.checkpoint import describe, resolve
from duplex.errors import CheckpointNotFoundError, ConfigError, HubError, WeightsError


@pytest.fixture
def impatient(monkeypatch):
    """Give up soon; where answers are awaited, a busy machine needs its time."""
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.5)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.5)


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_offline_with_a_cache(hub, monkeypatch):
    first = resolve(REPOSITORY)
    hub.requests.clear()
    go_offline(monkeypatch)
    assert resolve(REPOSITORY) == first
    assert describe(REPOSITORY).revision == FIRST
    assert hub.requests == []


@pytest.mark.usefixtures("hub")
def test_offline_without_a_cache(monkeypatch):
    go_offline(monkeypatch)
    fails(HubError, "HF_HUB_OFFLINE is set")


@pytest.mark.usefixtures("hub")
def test_offline_with_half_a_cache(monkeypatch):
    resolve(REPOSITORY, parts=("codec",))
    go_offline(monkeypatch)
    assert resolve(REPOSITORY, parts=("codec",)).revision == FIRST
    fails(CheckpointNotFoundError, r"model\.safetensors")


@pytest.mark.usefixtures("hub")
def test_hub_down_with_a_cache(monkeypatch):
    first = resolve(REPOSITORY)
    use_endpoint(monkeypatch, f"http://127.0.0.1:{closed_port()}")
    assert resolve(REPOSITORY) == first


@pytest.mark.usefixtures("hub")
def test_hub_down_without_a_cache(monkeypatch):
    use_endpoint(monkeypatch, f"http://127.0.0.1:{closed_port()}")
    fails(HubError, "cannot be reached.*HF_ENDPOINT.*HF_HUB_OFFLINE=1")


@pytest.mark.usefixtures("impatient")
def test_a_hub_that_never_answers(hub):
    hub.silent = ("/",)
    fails(HubError, "does not answer in time.*HF_HUB_OFFLINE=1")


@pytest.mark.usefixtures("impatient")
def test_a_hub_that_stops_answering(hub, monkeypatch):
    monkeypatch.setattr(duplex.checkpoints.hub_client, "STALL_FACTOR", 3)
    hub.silent = (f"/{REPOSITORY}/resolve/",)
    fails(HubError, "sent nothing new.*HF_HUB_DOWNLOAD_TIMEOUT")
    hub.silent = ()  # for the call that was given up, which tries again


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_hub_with_an_error(hub, status):
    hub.status = {"/api/": status}
    fails(HubError, f"HTTP {status}")


def test_a_hub_whose_files_fail(hub):
    hub.status = {f"/{REPOSITORY}/resolve/": 403}
    fails(HubError, "refuses access")


def test_an_error_of_the_hub_with_a_cache(hub):
    first = resolve(REPOSITORY)
    hub.status = {"/": 503}
    assert resolve(REPOSITORY) == first


def test_something_that_is_no_hub(hub):
    hub.status = {"/": 404}
    fails(HubError, "does not answer as a hub does; check HF_ENDPOINT")
    hub.status = {"/": 200}
    fails(HubError, "does not answer as a hub does.*check HF_ENDPOINT")


def test_a_gated_repository(hub, monkeypatch):
    hub.key = "secret"
    assert "secret" not in fails(HubError, "refuses access; accept the terms.*hf auth login.*HF_TOKEN")
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert resolve(REPOSITORY).revision == FIRST


def test_401_without_a_reason(hub):
    hub.status = {"/": 401}
    fails(HubError, "refuses access.*hf auth login")


@pytest.mark.usefixtures("hub")
def test_no_such_repository():
    fails(CheckpointNotFoundError, "somebody/else: no such repository.*hf auth login", "somebody/else")


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("name", ["a--b/c", "a..b/c", "-a/b", "a/b c", "a/" + "b" * 200])
def test_names_that_no_repository_has(name):
    fails(CheckpointNotFoundError, "owner/name", name)


def test_a_config_that_reaches_out_of_the_repository(hub):
    hub.add(checkpoint_files(tokenizer_name="../../../../../../etc/passwd"))
    fails(ConfigError, "'tokenizer_name' is")


def test_a_download_that_breaks_off_is_resumed(hub, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)  # else only whole 10 MB are kept
    hub.cut = 130_000
    assert resolve(REPOSITORY).weights.read_bytes() == checkpoint_files()["model.safetensors"]
    assert hub.downloads().count("model.safetensors") == 2


@pytest.mark.usefixtures("impatient")
def test_a_download_that_breaks_off_for_good(hub, monkeypatch):
    monkeypatch.setattr(duplex.checkpoints.hub_client, "STALL_FACTOR", 5)
    hub.cut, hub.ranges = 90_000, False
    message = fails(HubError, "sent nothing new|broke off")
    assert "try again later" in message or "OFFLINE" in message
    hub.cut = 0
    assert resolve(REPOSITORY).revision == FIRST


def test_a_file_that_is_damaged_on_the_hub(hub):
    hub.add(checkpoint_files() | {"model.safetensors": save(weights())[:-1]})
    fails(WeightsError, "cut short")


def test_a_pickle_on_the_hub_is_not_downloaded(hub):
    hub.add(checkpoint_files(moshi_name="model.pt") | {"model.pt": b"PK\x03\x04"})
    fails(ConfigError, r"only \.safetensors")
    assert hub.downloads() == ["config.json"]


def test_describe_downloads_nothing_big(hub):
    facts = describe(REPOSITORY).as_json()
    assert (facts["kind"], facts["revision"]) == ("hub", FIRST)
    assert facts["model"]["weights"]["parameters"] == {"F32": 35000, "F16": 3}
    assert facts["codec"]["weights"]["total_bytes"] == 140006
    cached = [path.name for path in (Path(constants.HF_HUB_CACHE).glob("models--*/snapshots/*/*"))]
    assert sorted(cached) == ["config.json", "mimi_config.json", OTHER_KEYS["tokenizer_name"]]
    resolve(REPOSITORY)
    hub.requests.clear()
    assert describe(REPOSITORY).as_json() == facts
    assert hub.downloads() == []


def test_describe_what_is_no_safetensors(hub):
    hub.add(checkpoint_files() | {"model.safetensors": b"PK\x03\x04" + bytes(99)})
    with pytest.raises(WeightsError, match=r"model\.safetensors"):
        describe(REPOSITORY)


def test_the_environment_is_honoured(hub, tmp_path):
    """In a process of its own, with nothing but environment variables."""
    code = f"from duplex.checkpoints.checkpoint import resolve; print(resolve({REPOSITORY!r}).weights)"
    variables = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "secret"}
    hub.key = "secret"

    def run(**more):
        command = [sys.executable, "-W", "error", "-c", code]
        return subprocess.run(command, env=variables | more, capture_output=True, text=True, check=False)

    assert "HF_HUB_OFFLINE is set" in run(HF_HUB_OFFLINE="1").stderr
    done = run()
    assert done.stdout.startswith(str(tmp_path / "home")), done.stderr
    hub.requests.clear()
    assert run(HF_HUB_OFFLINE="1").stdout == done.stdout
    assert run(HF_ENDPOINT=f"http://127.0.0.1:{closed_port()}").stdout == done.stdout
    assert hub.requests == []


def test_interrupted_calls_leave_no_bars_running(hub):
    watch = duplex.checkpoints.hub_client.Watchdog()
    bar = watch.progress_bar_class(visible=False)(total=3)
    with contextlib.closing(bar):
        bar.update(1)
        assert watch.run(lambda: 7) == 7
        with pytest.raises(HubError, match="given up"):
            bar.update(1)
    assert hub.requests == []
