"""What the tests of hub share."""

import hashlib
import http.server
import json
import re
import threading
import time
from urllib.parse import unquote

import huggingface_hub
import pytest
from huggingface_hub import constants
from test_checkpoint import checkpoint_files

from duplex.checkpoints.checkpoint import resolve

REPOSITORY = "somebody/small"


FIRST = "1" * 40


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
