"""Numbers on the command line, and in its settings file, that cannot be meant: one line, and no work begun."""

import pytest

from cli_support import run

DIGITS = "9" * 5000


@pytest.mark.parametrize(
    "arguments",
    [
        *(("train", "data", "--scale", scale) for scale in ("1e18", "1e400", "nan", "-1", "0")),
        *(("train", "dialogues", "--scale", scale) for scale in ("1e300", "inf")),
        ("train", "data", "--seed", DIGITS),
        *(("bench", "--context", value) for value in ("99999999999999999999", DIGITS, "-1")),
        *(("bench", "--frames", value) for value in ("99999999999999999999", "0")),
        *((command, "--sessions", "9" * 30) for command in ("bench", "info", "process", "serve")),
        *(("process", "--temperature", value) for value in ("1e400", "nan", "-1")),
        *(("process", "--tail", value) for value in ("1e400", "nan")),
        *(("serve", "--queue-timeout", value) for value in ("1e400", "nan", DIGITS)),
    ],
    ids=lambda arguments: " ".join(arguments)[:40],
)
def test_a_number_out_of_range(tmp_path, arguments):
    out = ("--out", tmp_path / "out") if arguments[0] in {"train", "process"} else ()
    given = (tmp_path / "a.wav",) if arguments[0] == "process" else ()
    outcome = run(*arguments, *out, *given)
    assert outcome.status == 2
    assert "unexpected" not in outcome.only_error()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", [f"queue = {DIGITS}", "a = " + "[" * 50_000], ids=["digits", "brackets"])
def test_a_settings_file_out_of_range(tmp_path, text):
    (tmp_path / "serve.toml").write_text(text)
    outcome = run("serve", "--settings", tmp_path / "serve.toml")
    assert outcome.status == 2
    assert "TOML" in outcome.only_error()
