"""Texts said by a small random model of synthesis: the published program's words and times, and what is refused."""

import importlib
import json
from pathlib import Path

import anyio
import numpy as np
import pytest

import duplex
from duplex import AgentAudio, AgentText, SessionEnded, SessionOptions, SessionStarted, Speaker, UsageError
from duplex.checkpoints.kind_configs import TtsConfig
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.checkpoints.layout import CheckpointLayout
from duplex.checkpoints.mimi_config import MimiConfig
from duplex.checkpoints.sources import LocalFolder
from duplex.checkpoints.voices import Voices
from duplex.server import application

pytestmark = pytest.mark.anyio
FAMILY = Path(__file__).parents[1] / "data" / "family"
FOLDER, CODEC = FAMILY / "tts", FAMILY / "personaplex"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())
MAIN = EXPECTED["main"]
GREEDY = SessionOptions(greedy=True)
TRANSCRIPT = [tuple(word) for word in MAIN["transcript"]]


class Words:
    """Stands for the tokenizer: the words of the reference and their tokens, without those of the speakers."""

    def __init__(self):
        entries = [(entry["text"], entry["tokens"]) for entry in MAIN["entries"] if entry["tokens"]]
        self.known = {text: tokens[1:] if tokens[0] in (1, 2) else tokens for text, tokens in entries}

    def encode(self, text):
        return self.known.get(text, [4, 5])


@pytest.fixture(scope="module", params=["torch", "mlx"])
def model(request):
    if request.param == "mlx":
        pytest.importorskip("mlx.core", reason="MLX is not installed: pip install 'duplex-speech[mlx]'")
    backend = importlib.import_module(f"duplex.backends.{request.param}")
    mapping = json.loads((FOLDER / "config.json").read_text())
    own = {key: value for key, value in mapping.items() if key not in CheckpointLayout.NON_MODEL_KEYS}
    config, tts = LanguageModelConfig.from_dict(own, where="tts"), TtsConfig(**mapping["tts_config"])
    frame_model = backend.load_model(
        config,
        MimiConfig.from_dict(json.loads((CODEC / "mimi_config.json").read_text()), where="mimi"),
        weights=FOLDER / mapping["moshi_name"],
        mimi_weights=CODEC / "tokenizer-e351c8d8-checkpoint125.safetensors",
        fingerprint="tts",
        device="cpu",
        dtype="float32",
        quantize=None,
        cache_dtype="auto",
        sessions=3,
        deterministic=False,
        tts=tts,
    )
    defaults = SessionOptions(
        temperature=0.6, text_temperature=0.6, top_k=250, text_top_k=25, seed=0, guidance=MAIN["cfg_condition"]
    )
    given = {"defaults": defaults, "tts": tts, "conditioners": config.conditioners}
    with duplex.Model(frame_model, Words(), name="tts", voices=Voices(LocalFolder(FOLDER)), **given) as made:
        yield made


async def said(model, text, voice=("first.wav", "second.wav"), options=GREEDY):
    async with Speaker(model, voice=voice, options=options) as speaker:
        return [event async for event in speaker.say(text)]


def words_of(events, model):
    return [(event.text, round(event.at * model.spec.frame_rate)) for event in events if isinstance(event, AgentText)]


async def test_the_published_words_and_times(model):
    found = await said(model, EXPECTED["turns"])
    assert words_of(found, model) == TRANSCRIPT
    assert [event.sequence for event in found] == list(range(len(found)))
    assert isinstance(found[0], SessionStarted)
    assert isinstance(found[-1], SessionEnded)
    audio = [event for event in found if isinstance(event, AgentAudio)]
    assert [round(event.at * 12.5) for event in audio] == list(range(50))
    assert found[-1].usage.frames == 50


async def test_the_same_beside_others_who_speak(model):
    found = {}

    async def speak(number, text, options):
        await anyio.sleep(0.01 * number)
        found[number] = await said(model, text, options=options)

    other = SessionOptions(seed=5)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(speak, 0, ["morning? Hello, how are you?"], other)
        tasks.start_soon(speak, 1, EXPECTED["turns"], GREEDY)
        tasks.start_soon(speak, 2, ["this river"], other)
    assert words_of(found[1], model) == TRANSCRIPT
    assert [word for word, _ in words_of(found[2], model)] == ["this", "river"]


async def test_a_text_that_comes_in_pieces(model):
    """Cut anywhere, and late: the same words at the same times as the whole text."""
    text = 'Hello, how are you (there) this <break time="0.4s"/> morning?'

    async def pieces():
        for start in range(0, len(text), 3):
            await anyio.sleep(0.002)
            yield text[start : start + 3]

    whole, cut = await said(model, text), await said(model, pieces())
    assert words_of(cut, model) == words_of(whole, model)
    voices = [[event.pcm for event in found if isinstance(event, AgentAudio)] for found in (whole, cut)]
    np.testing.assert_array_equal(*map(np.concatenate, voices))


async def test_a_text_that_does_not_go_on_makes_no_sound(model):
    async def pieces():
        yield "Hello, "
        await anyio.sleep_forever()

    heard = []
    with anyio.move_on_after(20) as patience:
        async with Speaker(model, voice="first.wav", options=GREEDY) as speaker:
            async for event in speaker.say(pieces()):
                heard.append(event)
                patience.deadline = anyio.current_time() + 0.5
    assert [type(event) for event in heard] == [SessionStarted]
    assert model.free == model.sessions


@pytest.mark.slow
async def test_a_text_longer_than_the_model_holds(model):
    """A thousand words; of the second half the first words are said last."""
    words = ["this", "river"] * 500
    found = await said(model, " ".join(words))
    assert [word for word, _ in words_of(found, model)] == words


async def test_a_word_without_end(model, monkeypatch):
    monkeypatch.setattr(model.tokenizer, "encode", lambda _: [4] * 1000)
    with pytest.raises(UsageError, match="a word of the text has 100"):
        await said(model, "aaaa")
    assert model.free == model.sessions


async def test_leaving_early_gives_the_place_back(model):
    async with Speaker(model, options=GREEDY) as speaker:
        async for event in speaker.say("Hello, how are you?"):
            if isinstance(event, AgentAudio):
                break
    assert model.free == model.sessions


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"voice": "nobody"}, "no voice 'nobody'; choose among first"),
        ({"voice": str(FOLDER / "config.json")}, "cannot be read"),
        ({"voice": ["first.wav"] * 6}, "at most 5 voices"),
        ({"options": SessionOptions(guidance=9)}, "guidance is 9"),
    ],
)
async def test_what_cannot_be_said_with(model, given, match):
    with pytest.raises(UsageError, match=match):
        async with Speaker(model, **given):
            pass
    assert model.free == model.sessions


async def test_models_of_other_kinds(model, models):
    with pytest.raises(UsageError, match="says no texts"):
        Speaker(models())
    with pytest.raises(UsageError, match=r"hears nothing; use duplex\.Speaker"):
        duplex.Conversation(model)
    served = application([model]).state.service.models
    with pytest.raises(UsageError, match="hears nothing; POST what it shall say to /v1/audio/speech"):
        served.find(None)
    assert served.find_speaking(None).model is model
    with pytest.raises(UsageError, match="enter the speaker"):
        Speaker(model).say("Hello")
