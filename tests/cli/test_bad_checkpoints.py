"""Checkpoints, and hubs, that cannot be used: one line that says what to do."""

import contextlib
import http.server
import json
import os
import shutil
import socket
import threading
from pathlib import Path

import numpy as np
import pytest
from bad_input_support import process
from safetensors.numpy import load_file, save_file

from cli_support import (
    SMALL,
    files_below,
    noise,
    run,
    spawn,
    write_wav,
)

MIMI = "tokenizer-e351c8d8-checkpoint125.safetensors"


@pytest.fixture
def checkpoint(tmp_path):
    return Path(shutil.copytree(SMALL, tmp_path / "model"))


def configure(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def change_weights(folder, change, file="model.safetensors"):
    tensors = load_file(folder / file)
    change(tensors)
    save_file(tensors, folder / file)


def without_a_tensor(folder):
    change_weights(folder, lambda tensors: tensors.pop("text_linear.weight"))


def with_one_more(folder):
    change_weights(folder, lambda tensors: tensors.update({"something.extra": np.zeros(3, np.float32)}))


def misshapen(folder):
    change_weights(folder, lambda tensors: tensors.update({"text_linear.weight": np.zeros((3, 3), np.float32)}))


def codec_without_a_tensor(folder):
    change_weights(folder, lambda tensors: tensors.pop(min(tensors)), MIMI)


def truncated(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def truncated_header(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])


def pickled(folder):
    import torch  # noqa: PLC0415 -- takes seconds

    torch.save({"a": torch.zeros(3)}, folder / "model.safetensors")


def old_pickle(folder):
    (folder / "model.safetensors").write_bytes(b"\x80\x02}q\x00." * 20)


def unknown_key(folder):
    configure(folder, quantum_layers=3)


def broken_config(folder):
    (folder / "config.json").write_text("{")


def no_tokenizer(folder):
    (folder / "tokenizer_spm.model").unlink()


def no_tokenizer_named(folder):
    config = json.loads((folder / "config.json").read_text())
    del config["tokenizer_name"]
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_spm.model").unlink()


def broken_tokenizer(folder):
    (folder / "tokenizer_spm.model").write_bytes(b"nothing of the kind")


def text_past_the_tokenizer(folder):
    configure(folder, text_card=50_000)


def no_weights(folder):
    (folder / "model.safetensors").unlink()


def no_codec(folder):
    (folder / MIMI).unlink()


def nothing(folder):
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (without_a_tensor, "text_linear.weight"),
        (with_one_more, "something.extra"),
        (misshapen, "text_linear.weight"),
        (codec_without_a_tensor, MIMI),
        (truncated, "cut short"),
        (truncated_header, "cut short"),
        (pickled, "pickle"),
        (old_pickle, "pickle"),
        (unknown_key, "quantum_layers"),
        (broken_config, "config.json"),
        (no_tokenizer, "tokenizer"),
        (no_tokenizer_named, "tokenizer"),
        (broken_tokenizer, "sentencepiece"),
        (text_past_the_tokenizer, "50000"),
        (no_weights, "model.safetensors"),
        (no_codec, MIMI),
        (nothing, "no model or folder"),
    ],
)
def test_a_bad_checkpoint(tmp_path, checkpoint, spoil, words):
    spoil(checkpoint)
    path = write_wav(tmp_path / "a.wav", noise(0.2))
    outcome = process(path, out=tmp_path / "out", model=checkpoint)
    assert outcome.status == 1
    assert words in outcome.only_error()
    assert not outcome.out
    assert not files_below(tmp_path / "out")


def test_info_of_a_bad_checkpoint(checkpoint):
    truncated(checkpoint)
    outcome = run("info", checkpoint)
    assert outcome.status == 1
    assert "cut short" in outcome.only_error()


class Refusing(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.server.status is None:
            self.server.over.wait(30)
            return
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815 -- the library's name

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def hub(status):
    """A hub that answers everything with one status, or not at all."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        server.status, server.over, server.daemon_threads = status, threading.Event(), True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.over.set()
            server.shutdown()


def ask(tmp_path, endpoint, *arguments, **settings):
    quick = {"HF_HUB_ETAG_TIMEOUT": "1", "HF_HUB_DOWNLOAD_TIMEOUT": "1"}
    places = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "home")}
    return spawn(*arguments, env={**os.environ, **quick, **places, **settings})


@pytest.mark.parametrize(
    ("status", "words"), [(401, "log in"), (403, "log in"), (503, "try again later"), (None, "try again later")]
)
def test_a_hub_that_refuses(tmp_path, status, words):
    with hub(status) as endpoint:
        outcome = ask(tmp_path, endpoint, "info", "somebody/model")
    assert outcome.status == 1
    assert words in outcome.only_error()


def test_a_hub_that_is_down(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
    path = write_wav(tmp_path / "a.wav", noise(0.2))
    outcome = ask(tmp_path, endpoint, "process", path, "--model", "somebody/model", "--out", tmp_path / "out")
    assert outcome.status == 1
    assert "cannot be reached" in outcome.only_error()
    offline = ask(tmp_path, endpoint, "info", "somebody/model", HF_HUB_OFFLINE="1")
    assert offline.status == 1
    assert "HF_HUB_OFFLINE" in offline.only_error()
    checked = ask(tmp_path, endpoint, "doctor")
    assert checked.status == 0, checked.out
    assert "cannot be reached" in checked.out
