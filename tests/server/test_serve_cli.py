"""``duplex serve``, as a process: where its settings come from, and how it stops."""

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cli_support import files_below, full_disk, run
from duplex.errors import OutputError
from duplex.server import certificate
from duplex.transports import wire
from server_support import PATIENCE, Process, get, until

TOKEN = "a-token-of-some-length"  # noqa: S105 -- a test's
SMALL = str(Path(__file__).parents[1] / "data" / "reference" / "small")


def test_it_serves_until_it_is_told_to_stop():
    with Process("--drain", 20) as served, served.server.call("?format=pcm") as caller:
        caller.until(wire.Kind.AUDIO)
        served.process.send_signal(signal.SIGTERM)
        until(lambda: json.loads(get(served.server, "/readyz")[2])["state"] == "draining", PATIENCE)
        with served.server.call() as late:
            assert late.end()[0] == 1012
        caller.say(np.zeros(1920, np.float32), audio_format="pcm")
        caller.finish()
        assert caller.end()[0] == 1000, "a conversation may come to its end"
        said = served.process.communicate(timeout=20)[1]
        assert served.process.returncode == 0
        assert "Traceback" not in said


def test_conversations_are_ended_when_the_time_is_up():
    with Process("--drain", 0.3) as served, served.server.call() as caller:
        caller.until(wire.Kind.AUDIO)
        status, _ = served.stop()
        assert caller.end()[0] == 1012
        assert status == 0


def test_a_second_signal_ends_everything():
    with Process("--drain", 600) as served, served.server.call() as caller:
        caller.until(wire.Kind.AUDIO)
        assert served.stop(signals=2)[0] == 0, "long before the conversation is over"


def test_settings_from_the_file_the_environment_and_the_command(tmp_path):
    file = tmp_path / "duplex.toml"
    file.write_text('queue = 0\nqueue-timeout = 3.0\nlog_format = "json"\nper-address = 5\n')
    with Process("--settings", file, "--per-address", 1, DUPLEX_PER_ADDRESS="2", DUPLEX_TOKENS=TOKEN) as served:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        with served.server.call(additional_headers=headers) as caller:
            caller.until(wire.Kind.HANDSHAKE)
            with served.server.call(additional_headers=headers) as second:
                code, told = second.end()
                assert code == 1013
                assert "your address" in told
        status, said = served.stop()
        assert status == 0
        logged = [json.loads(line) for line in said.splitlines()]
        assert {"too_many", "hung_up"} <= {line.get("reason") for line in logged}
        assert TOKEN not in said


def test_several_models_and_one_in_the_file(tmp_path):
    (tmp_path / "duplex.toml").write_text('model = "tiny"\norigin = "https://talk.example.org"\n')
    with Process("--settings", tmp_path / "duplex.toml", "--model", "tiny", "--sessions", 1) as served:
        described = json.loads(get(served.server, "/api/info")[2])
        assert [each["name"] for each in described["models"]] == ["small", "tiny"]
        assert re.search(r"memory on cpu: \d+\.\d GB of .*small .* \(1 session\), tiny .* \(1 session\)", served.told)
        with served.server.call("?model=tiny") as tiny, served.server.call("?model=small") as small:
            for caller in (tiny, small):  # one place each
                caller.until(wire.Kind.HANDSHAKE)
        assert served.stop()[0] == 0


def test_what_a_proxy_needs(tmp_path):
    """Names from the environment, several between spaces; the rest from a file."""
    (tmp_path / "duplex.toml").write_text(
        'trusted-proxy = ["127.0.0.1", "::1"]\nroot-path = "/talk"\nper-address = 1\n'
    )
    names = {"DUPLEX_ALLOW_HOST": "talk.example.org *.below.example", "DUPLEX_ORIGIN": ""}
    with Process("--settings", tmp_path / "duplex.toml", **names) as served:
        for host, status in {"talk.example.org": 200, "a.below.example": 200, "evil.example": 400}.items():
            assert get(served.server, "/talk/", Host=host)[0] == status
        with served.server.call() as first:
            first.until(wire.Kind.HANDSHAKE)
            with served.server.call(additional_headers={"X-Forwarded-For": "203.0.113.7"}) as second:
                second.until(wire.Kind.HANDSHAKE)
            with served.server.call() as third:
                assert third.end()[0] == 1013
        assert served.stop()[0] == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--host", "0.0.0.0"), "--token-file"),  # noqa: S104 -- refused
        (("--token-file", "nowhere"), "nowhere cannot be read"),
        (("--settings", "nowhere"), "nowhere cannot be read"),
        (("--tls-key", "key.pem"), "belong together"),
        (("--tls-key", "nowhere", "--tls-certificate", "nowhere"), "certificate cannot be used"),
        (("--queue", "-1"), "--queue"),
        (("--allow-host", "https://talk.example.org"), "without scheme and port"),
        (("--origin", "talk.example.org"), "is no origin"),
        (("--trusted-proxy", "*"), "give its address or its network"),
        (("--host", "no.such.host.invalid"), "--insecure"),
        (("--drain", "-1"), "drain is -1"),
        (("--idle-timeout", "nan"), "idle_timeout is nan"),
    ],
)
def test_what_cannot_be(arguments, told):
    outcome = run("serve", "--model", "no/model/is/here", "--port", "0", *arguments)
    assert outcome.status in (1, 2)
    assert told in outcome.err, "before the model is looked for"
    assert "Traceback" not in outcome.err
    assert outcome.err.count("\n") <= 4


def test_a_token_file_without_a_token_lets_nobody_in(tmp_path):
    (tmp_path / "tokens.txt").write_text("\n")
    outcome = run("serve", "--model", SMALL, "--port", "0", "--token-file", tmp_path / "tokens.txt")
    assert outcome.status == 2
    assert "has no token" in outcome.err


@pytest.mark.parametrize("wrong", ["record", "token", "port", "certificate"])
def test_what_can_be_known_is_told_before_a_model_is_looked_for(tmp_path, wrong):
    (tmp_path / "file").write_text("short")
    taken = socket.create_server(("127.0.0.1", 0))
    arguments, told = {
        "record": (("--record", tmp_path / "file" / "recordings"), "file"),
        "token": (("--token-file", tmp_path / "file"), "a token has 5 characters"),
        "port": (("--port", taken.getsockname()[1]), "cannot be listened on"),
        "certificate": (("--tls-certificate", tmp_path / "file", "--tls-key", tmp_path / "file"), "cannot be used"),
    }[wrong]
    with taken:
        outcome = run("serve", "--model", "no/model/is/here", *(("--port", "0") if wrong != "port" else ()), *arguments)
    assert outcome.status in (1, 2)
    assert told in outcome.err
    assert "no/model" not in outcome.err


def test_a_server_without_libopus_does_not_start():
    program = "import ctypes.util; ctypes.util.find_library = lambda _: None; from duplex.cli import main; main()"
    command = [sys.executable, "-c", program, "serve", "--model", "no/model/is/here"]
    served = subprocess.run(command, capture_output=True, text=True, check=False)
    assert served.returncode == 1
    assert "libopus" in served.stderr
    assert "no/model" not in served.stderr


def test_json_logs_tell_who_called_and_every_line_is_json(tmp_path):
    (tmp_path / "tokens.txt").write_text(f"alice:{TOKEN}\n{TOKEN}-of-nobody\n")
    options = ("--record", tmp_path / "r", "--sessions", 1, "--queue", 0, "--token-file", tmp_path / "tokens.txt")
    with Process("--log-format", "json", "--drain", 0.1, *options) as served:
        assert json.loads(get(served.server, "/api/info")[2])["recorded"] is True
        alice, nobody = ({"Authorization": f"Bearer {token}"} for token in (TOKEN, f"{TOKEN}-of-nobody"))
        with served.server.call("?events=full", additional_headers=alice) as caller:
            caller.until(wire.Kind.AUDIO)
            with served.server.call(additional_headers=nobody) as refused:
                assert refused.end()[0] == 1013
            text = get(served.server, "/metrics")[2]
            status, said = served.stop()
            assert caller.end()[0] == 1012
    assert status == 0
    lines = [json.loads(line) for line in (served.told + said).splitlines()]
    told = {line["message"]: line for line in lines}
    [folder] = (tmp_path / "r").iterdir()
    started, ended = told["call started"], told["call ended"]
    assert started["owner"] == ended["owner"] == "alice"
    assert started["recording"] == ended["recording"] == folder.name
    assert started["session"] == ended["session"]
    [first, *_] = (json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines())
    assert first["session_id"] == started["session"]
    assert ended["reason"] == "draining"
    assert told["call refused"]["reason"] == "full"
    assert len(told["call refused"]["owner"]) == 8
    assert sum(line["message"] == "call ended" for line in lines) == 1, "who was refused had no call"
    assert told["draining"]["calls"] == 1
    assert told["listening"]["address"].startswith("http://127.0.0.1:")
    assert 'duplex_places{model="small"} 1.0' in text
    assert "duplex_queue_wait_seconds_count 1.0" in text
    assert 'model="small"' in text or "duplex_build_info{" in text


def test_an_error_at_the_start_is_json_too(tmp_path):
    served = subprocess.run(
        [sys.executable, "-m", "duplex", "serve", "--log-format", "json", "--model", tmp_path / "nothing"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert served.returncode == 1
    [line] = served.stderr.splitlines()
    assert "nothing" in json.loads(line)["message"]


def test_a_settings_file_with_a_word_that_is_no_option(tmp_path):
    (tmp_path / "duplex.toml").write_text("quue = 3\n")
    outcome = run("serve", "--settings", tmp_path / "duplex.toml")
    assert outcome.status == 2
    assert "'quue', which is no option" in outcome.err


@pytest.mark.slow
def test_a_recording_is_readable_at_any_moment(tmp_path):
    import av  # noqa: PLC0415

    with Process("--record", tmp_path) as served, served.server.call("?format=pcm") as caller:
        for _ in range(20):
            caller.say(np.full(1920, 0.25, np.float32), audio_format="pcm", pace=0.08)
        time.sleep(1.2)
        served.process.kill()  # no chance to tidy up
        served.process.wait()
    (folder,) = tmp_path.iterdir()
    with av.open(str(folder / "dialogue.wav")) as container:
        stream = container.streams.audio[0]
        sound = np.concatenate([frame.to_ndarray().reshape(-1, 2) for frame in container.decode(stream)])
        assert (stream.rate, stream.codec_context.channels) == (24000, 2)
    assert len(sound) >= 20 * 1920
    assert (sound[:, 0] == round(0.25 * 32768)).sum() >= 15 * 1920, "the user, left"
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert events[0]["type"] == "SessionStarted"


def test_a_disk_that_refuses_ends_the_recording_only(tmp_path):
    folder = tmp_path / "calls"
    with Process("--record", folder) as served:
        folder.rmdir()
        folder.write_text("a file, from now on")
        with served.server.call("?format=pcm") as caller:
            caller.until(wire.Kind.AUDIO)
            time.sleep(1.2)
            caller.say(np.zeros(1920, np.float32), audio_format="pcm")
            caller.finish()
            assert caller.end()[0] == 1000
        _, said = served.stop()
        assert "is incomplete" in said
        assert "Traceback" not in said


def test_a_certificate_of_its_own(tmp_path):
    with Process("--tls", HOME=str(tmp_path)) as served:
        assert "https://" in served.told
        with served.server.call(scheme="wss") as caller:
            caller.until(wire.Kind.HANDSHAKE)
        served.stop()
    folder = tmp_path / ".config" / "duplex" / "tls"
    assert (folder / certificate.KEY).stat().st_mode & 0o077 == 0, "nobody else reads the key"
    before = (folder / certificate.CERTIFICATE).read_bytes()
    assert certificate.self_signed_certificate(folder, "127.0.0.1")[0].read_bytes() == before
    assert certificate.self_signed_certificate(folder, "10.0.0.7")[0].read_bytes() != before, "another name"


def test_a_key_that_cannot_be_written_leaves_no_part_of_it(tmp_path):
    with full_disk(100), pytest.raises(OutputError, match=r"key\.pem cannot be written: .*choose another folder"):
        certificate.self_signed_certificate(tmp_path, "127.0.0.1")
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("damaged", [certificate.CERTIFICATE, certificate.KEY])
@pytest.mark.parametrize("content", [b"", b"half of it", None])
def test_a_certificate_that_does_not_fit_its_key_is_made_anew(tmp_path, damaged, content):
    """As after a crash between the two."""
    other = certificate.self_signed_certificate(tmp_path / "other", "127.0.0.1")
    made = certificate.self_signed_certificate(tmp_path, "127.0.0.1")
    (tmp_path / damaged).write_bytes((other[0].parent / damaged).read_bytes() if content is None else content)
    assert certificate.self_signed_certificate(tmp_path, "127.0.0.1") == made
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(*made)


@pytest.mark.parametrize("options", [(), ("--tls",)])
def test_the_container_s_health_check(tmp_path, options):
    check = [sys.executable, str(Path(__file__).parents[2] / "deploy" / "healthcheck.py")]
    with Process(*options, HOME=str(tmp_path)) as served:
        environment = os.environ | {"DUPLEX_PORT": str(served.server.port)}
        assert subprocess.run(check, env=environment, timeout=30, check=False).returncode == 0
    gone = subprocess.run(check, env=environment, timeout=30, check=False, capture_output=True, text=True)
    assert gone.returncode == 1
    assert gone.stderr == f"nothing answers on port {environment['DUPLEX_PORT']}\n"
