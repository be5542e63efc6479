"""A recognition model in conversations and on recordings: whole words, in time, and nothing of an agent."""

import json
import subprocess
import sys
import wave

import anyio
import numpy as np
import pytest
from safetensors.numpy import load_file

import duplex
from cli_support import run
from duplex.errors import CapacityError, UsageError
from duplex.process import process, transcribe
from recognition_support import FRAME, RATE, write_wav

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@pytest.fixture(scope="module")
def model(recognizer):
    with duplex.load(str(recognizer.folder), backend="torch", device="cpu", sessions=2) as loaded:
        yield loaded


class Tokens:
    def __init__(self):
        self.text = []

    def record(self, frame):
        self.text.append(frame.text)


def words_of(events):
    return [(event.text, event.start) for event in events if isinstance(event, duplex.UserText)]


async def heard(model, pcm, **options):
    async with duplex.Conversation(model, **options) as conversation:
        return [event async for event in conversation.run(pcm)]


async def check(model, expected):
    tokens = Tokens()
    events = await heard(model, expected.pcm, recorder=tokens)
    # Delays of zero: a step's token is that of the time step before, and the first is the initial one's.
    assert tokens.text[1:] == expected.tensors["text"][: len(tokens.text) - 1].tolist()
    words = expected.words(len(tokens.text) - 1)
    assert words_of(events)[: len(words)] == words
    # The published program goes on for a second longer: a word may be open here, which is told as far as it has come.
    is_open = int(tokens.text[-1] not in (0, 3))
    assert len(words_of(events)) == len(words) + is_open


async def test_tokens_and_words_are_those_of_the_published_program(model, recognizer):
    await check(model, recognizer)


async def test_whole_reference_checkpoints(reference_recognizer):
    with duplex.load(str(reference_recognizer.folder), backend="torch", device="cpu") as model:
        await check(model, reference_recognizer)


async def test_there_is_no_agent(model, recognizer):
    events = await heard(model, recognizer.pcm)
    assert {type(event).__name__ for event in events} <= {
        "SessionStarted",
        "UserSpeechStarted",
        "UserSpeechStopped",
        "UserText",
        "SessionEnded",
    }
    texts = [event for event in events if isinstance(event, duplex.UserText)]
    assert texts
    assert all(0 <= event.at == event.start <= event.end for event in texts)
    assert [event.sequence for event in events] == list(range(len(events)))


async def test_live_audio_gives_the_same_words(model, recognizer):
    """All of it at once, and live: the frames after the end are no frames that have come too late."""
    transport = duplex.MemoryTransport(realtime=True)
    found = []
    async with (
        duplex.Conversation(model, transport, options=duplex.SessionOptions(greedy=True)) as conversation,
        anyio.create_task_group() as tasks,
    ):

        async def speak():
            for start in range(0, len(recognizer.pcm), FRAME):
                await transport.feed(recognizer.pcm[start : start + FRAME])
                await anyio.sleep(0.08)
            await transport.end()

        tasks.start_soon(speak)
        found = [event async for event in conversation]
    lost = [event for event in found if isinstance(event, duplex.Lag)]
    if not lost:  # a machine that is busy may be late
        assert words_of(found) == words_of(await heard(model, recognizer.pcm))
    assert isinstance(found[-1], duplex.SessionEnded)


@pytest.mark.parametrize("cut", [0, 3, 20])
async def test_a_conversation_goes_on_where_it_was_saved(model, recognizer, cut):
    whole = words_of(await heard(model, recognizer.pcm))
    async with duplex.Conversation(model) as conversation:
        await conversation.send(recognizer.pcm[: cut * FRAME])
        saved = await conversation.export()
        while duplex.Conversation(model, state=saved).resume_at < 0.08 * cut - 0.16:
            await anyio.sleep(0.01)
            saved = await conversation.export()
    resumed = duplex.Conversation(model, state=saved)
    place = round(resumed.resume_at * RATE)
    assert 0 <= place <= cut * FRAME
    async with resumed as conversation:
        found = [event async for event in conversation.run(recognizer.pcm[place:])]
    assert words_of(found)[-3:] == whole[-3:]


async def test_process_writes_what_the_user_said(model, recognizer, tmp_path):
    recording = write_wav(tmp_path / "said.wav", recognizer.pcm)
    (result,) = await process(model, [recording], tmp_path / "out")
    assert result.status == "done"
    assert result.text == ""
    written = sorted(path.name for path in result.folder.iterdir())
    assert written == ["dialogue.wav", "events.jsonl", "run.json", "tokens.safetensors", "user_transcript.json"]
    transcript = json.loads((result.folder / "user_transcript.json").read_text())
    assert transcript["text"] == result.user_text != ""
    with wave.open(str(result.folder / "dialogue.wav")) as file:
        sound = np.frombuffer(file.readframes(file.getnframes()), np.int16).reshape(-1, 2)
    assert len(recognizer.pcm) <= len(sound) < len(recognizer.pcm) + 2 * FRAME
    assert np.abs(sound[: len(recognizer.pcm), 0] / 32767 - recognizer.pcm).max() < 1e-3
    assert not sound[:, 1].any()
    text = load_file(result.folder / "tokens.safetensors")["text"]
    assert np.array_equal(text[1:], recognizer.tensors["text"][: len(text) - 1])
    (again,) = await process(model, [recording], tmp_path / "out")
    assert (again.status, again.user_text) == ("skipped", result.user_text)


async def test_transcripts_in_all_formats(model, recognizer, tmp_path):
    recordings = [write_wav(tmp_path / f"{name}.wav", recognizer.pcm[: name * RATE]) for name in (1, 2)]
    formats = ("json", "srt", "vtt", "text")
    results = await transcribe(model, recordings, tmp_path / "out", formats=formats)
    for result in results:
        assert result.status == "done"
        names = sorted(path.name for path in result.folder.iterdir())
        assert names == ["run.json", *(f"user_transcript.{form}" for form in ("json", "srt", "txt", "vtt"))]
        transcript = json.loads((result.folder / "user_transcript.json").read_text())
        assert (
            (result.folder / "user_transcript.txt").read_text() == transcript["text"] + "\n" == result.user_text + "\n"
        )
    assert [result.seconds for result in results] == [1.0, 2.0]
    again = await transcribe(model, recordings, tmp_path / "out", formats=formats)
    assert [result.status for result in again] == ["skipped", "skipped"]
    fewer = await transcribe(model, recordings, tmp_path / "out", formats=("json",))
    assert [result.status for result in fewer] == ["done", "done"]


async def test_a_recording_that_fails_leaves_the_others(model, recognizer, tmp_path):
    good = write_wav(tmp_path / "good.wav", recognizer.pcm)
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"no sound")
    results = await transcribe(model, [bad, good], tmp_path / "out")
    assert [result.status for result in results] == ["failed", "done"]
    assert not (tmp_path / "out" / "bad").exists()


async def test_beside_another_model_the_words_are_the_same(model, recognizer):
    alone = words_of(await heard(model, recognizer.pcm))
    with duplex.load("tiny", sessions=1) as tiny:
        beside = await heard(tiny, recognizer.pcm, transcriber=duplex.SttTranscriber(model))
    assert words_of(beside) == alone
    assert any(isinstance(event, duplex.AgentAudio) for event in beside)
    assert model.free == model.sessions


async def test_a_conversation_that_cannot_be_transcribed_takes_no_place(model):
    transcriber = duplex.SttTranscriber(model)
    with duplex.load("tiny", sessions=1) as tiny:
        async with duplex.Conversation(model), duplex.Conversation(model):
            with pytest.raises(CapacityError):
                async with duplex.Conversation(tiny, transcriber=transcriber):
                    pass
        assert tiny.free == 1


async def test_what_is_no_transcriber_is_refused(model):
    with duplex.load("tiny") as tiny:
        with pytest.raises(UsageError, match="SttTranscriber"):
            duplex.Conversation(tiny, transcriber="whisper")
        with pytest.raises(UsageError, match="kind"):
            duplex.SttTranscriber(tiny)
        with pytest.raises(UsageError, match="kind"):
            await transcribe(tiny, ["x.wav"], "out")
    with pytest.raises(UsageError, match="itself"):
        duplex.Conversation(model, transcriber=duplex.SttTranscriber(model))


def test_the_command_prints_a_transcript(recognizer, tmp_path):
    recording = write_wav(tmp_path / "said.wav", recognizer.pcm)
    outcome = run("transcribe", recording, "--model", recognizer.folder)
    assert outcome.status == 0
    subtitles = run("transcribe", recording, "--model", recognizer.folder, "--format", "srt")
    assert subtitles.out.startswith("1\n00:00:00,000 --> ")
    files = run("transcribe", recording, "--model", recognizer.folder, "--out", tmp_path / "out", "--format", "vtt")
    assert files.status == 0
    assert (tmp_path / "out" / "said" / "user_transcript.vtt").read_text().startswith("WEBVTT\n\n00:00:00.000 --> ")
    assert outcome.out.strip() in files.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "does not recognise speech"),
        (("--format", "docx"), "no format docx"),
        (("--format", "srt,vtt"), "give --out"),
        (("--language", "en"), "--language is for"),
        (("--transcriber", "tiny"), "give whisper:NAME"),
        (("--transcriber", "whisper:"), "lacks a model"),
        (("--transcriber", "whisper:/nowhere"), "cannot be loaded"),
    ],
)
def test_wrong_use_of_the_command(tmp_path, arguments, said):
    recording = write_wav(tmp_path / "said.wav", np.zeros(RATE, np.float32))
    outcome = run("transcribe", recording, *arguments)
    assert outcome.status in (1, 2)
    assert said in outcome.only_error()


WITHOUT_TORCH = """
import sys
from duplex.cli import main
try:
    main(sys.argv[1:])
except SystemExit as ended:
    sys.exit(ended.code or int("torch" in sys.modules))
"""


def test_the_command_loads_no_model_when_all_is_finished(recognizer, tmp_path):
    recordings = [write_wav(tmp_path / f"{name}.wav", recognizer.pcm[:RATE]) for name in "ab"]
    command = ["transcribe", *recordings, "--model", recognizer.folder, "--out", tmp_path / "out"]
    first = run(*command)
    assert first.status == 0
    again = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *map(str, command)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert again.stdout.count("(finished before)") == 2
    assert again.stdout.replace(" (finished before)", "") == first.out
    (tmp_path / "out" / "b" / "run.json").unlink()
    third = run(*command)
    assert third.out.count("(finished before)") == 1
    assert third.out.replace(" (finished before)", "") == first.out
    assert run(*command, "--force").out == first.out
