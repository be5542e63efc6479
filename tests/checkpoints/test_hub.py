"""Repositories of a hub: a local stand-in that speaks the part of the protocol which downloads need."""

import contextlib
import hashlib
import http.server
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import unquote

import huggingface_hub
import pytest
from huggingface_hub import constants
from safetensors.numpy import save
from test_checkpoint import LEGACY_TOKENIZER, MIMI, MIMI_CONFIG, OTHER_KEYS, TOKENIZER, checkpoint_files, weights, write

import duplex.checkpoints.hub_client
from duplex.checkpoints.checkpoint import describe, resolve
from duplex.checkpoints.config import LanguageModelConfig
from duplex.errors import CheckpointNotFoundError, ConfigError, HubError, UsageError, WeightsError

REPOSITORY = "somebody/small"
FIRST, SECOND = "1" * 40, "2" * 40
API = re.compile(r"/api/models/([^/]+/[^/]+?)(?:/revision/([^/?]+))?(?:\?.*)?")
FILE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


class Hub:
    """What the stand-in holds, and how it misbehaves."""

    def __init__(self):
        self.commits = {}  # (repository, commit) -> files
        self.names = {}  # (repository, branch or tag) -> commit
        self.requests = []  # method, path
        self.key = None  # when set, wanted for everything
        self.status = {}  # the first part of a path -> the status that it is answered with
        self.silent = ()  # the first parts of paths that are never answered
        self.cut = 0  # bytes after which an answer breaks off
        self.ranges = True
        self.over = threading.Event()

    def add(self, files, commit=FIRST, name="main", repository=REPOSITORY):
        self.commits[repository, commit] = files
        self.names[repository, name] = commit

    def find(self, repository, revision):
        commit = self.names.get((repository, revision), revision)
        return commit, self.commits.get((repository, commit))

    def downloads(self):
        return [path.rsplit("/", 1)[-1] for method, path in self.requests if method == "GET" and "/resolve/" in path]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    @property
    def hub(self):
        return self.server.hub

    def answer(self):
        path = unquote(self.path)
        self.hub.requests.append((self.command, path))
        if path.startswith(tuple(self.hub.silent)):
            self.hub.over.wait(60)
            self.close_connection = True
            return
        for start, status in self.hub.status.items():
            if path.startswith(start):
                self.refuse(status)
                return
        if self.hub.key and self.headers.get("Authorization") != f"Bearer {self.hub.key}":
            self.refuse(401, "GatedRepo")
            return
        if match := API.fullmatch(path):
            self.listing(match[1], match[2] or "main")
        elif match := FILE.fullmatch(path):
            self.file(*match.groups())
        else:
            self.refuse(404)

    def listing(self, repository, revision):
        commit, files = self.hub.find(repository, revision)
        if files is None:
            self.refuse(404, "RevisionNotFound" if (repository, "main") in self.hub.names else "RepoNotFound")
            return
        siblings = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
        body = json.dumps({"id": repository, "sha": commit, "siblings": siblings, "tags": []}).encode()
        self.send(200, body, {"Content-Type": "application/json"})

    def file(self, repository, revision, name):
        commit, files = self.hub.find(repository, revision)
        if files is None or name not in files:
            self.refuse(404, "EntryNotFound")
            return
        content = files[name]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")) if self.hub.ranges else None
        if wanted is None:
            self.send(200, content, headers)
            return
        first, last = int(wanted[1]), min(int(wanted[2] or len(content) - 1), len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        self.send(206, content[first : last + 1], headers)

    def refuse(self, status, code=None):
        self.send(status, b"", {"X-Error-Code": code} if code else {})

    def send(self, status, body, headers):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.hub.cut and "X-Repo-Commit" in headers and len(body) > self.hub.cut:
            self.wfile.write(body[: self.hub.cut])
            self.close_connection = True
            return
        self.wfile.write(body)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass  # the client went away, as some tests want it to


def use_endpoint(monkeypatch, url):
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    server = Server(("127.0.0.1", 0), Handler)
    server.hub = Hub()
    server.hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    use_endpoint(monkeypatch, server.hub.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.5)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.5)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    server.hub.add(checkpoint_files())
    yield server.hub
    server.hub.over.set()
    for running in threading.enumerate():
        if running.name == "duplex-hub":
            running.join(30)
    huggingface_hub.close_session()
    server.shutdown()
    thread.join()
    server.server_close()


def fails(error, match, name=REPOSITORY, **options):
    """The call fails with one line, soon; returns the message."""
    start = time.monotonic()
    with pytest.raises(error, match=match) as caught:
        resolve(name, progress=False, **options)
    assert time.monotonic() - start < 30
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)
    return str(caught.value)


def go_offline(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


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


def test_a_hub_that_never_answers(hub):
    hub.silent = ("/",)
    fails(HubError, "does not answer in time.*HF_HUB_OFFLINE=1")


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
