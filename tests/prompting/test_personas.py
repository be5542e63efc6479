"""PersonaPlex through a conversation: the published program's tokens, in company, shared, saved and refused."""

import anyio
import numpy as np
import pytest

import duplex
from duplex.checkpoints.tokenizer import Tokenizer
from duplex.errors import AudioFileError, StateError, UsageError
from duplex.prompting.personaplex import persona_prompt, tagged
from duplex.prompting.voices import read_voice
from persona_support import EXPECTED, FOLDER, GREEDY, PROMPT, USER, Recorder, expected_tokens, persona_model, tokens_of  # noqa: F401

pytestmark = pytest.mark.anyio
WAV, PT = str(FOLDER / "voices" / "voice.wav"), str(FOLDER / "voices" / "voice.pt")


def test_the_columns_are_the_published_ones(persona_model):
    spec = persona_model.spec
    tokenizer = Tokenizer.load(FOLDER / "tokenizer_spm_32k_3.model")
    voice = read_voice(FOLDER / "voices" / "voice.wav", spec, persona_model.codec.encode)
    prompt = persona_prompt(spec, voice, tokenizer.encode(tagged(PROMPT)))
    np.testing.assert_array_equal(prompt.columns, EXPECTED["prompt"][:, 1:])


def test_a_published_voice_says_what_it_knows_of_its_last_columns(persona_model):
    spec = persona_model.spec
    prompt = persona_prompt(spec, read_voice(FOLDER / "voices" / "voice.pt", spec, persona_model.codec.encode), [])
    count = prompt.embedded.tokens.shape[1]
    np.testing.assert_array_equal(prompt.columns[:, 0], EXPECTED["prompt"][:, 1 + count])
    np.testing.assert_array_equal(prompt.embedded.tokens[:, -1], EXPECTED["prompt"][:, count])


@pytest.mark.parametrize("voice", [WAV, PT, "voice", "voice.pt"])
async def test_the_published_tokens(persona_model, voice):
    np.testing.assert_array_equal((await tokens_of(persona_model, voice=voice, **GREEDY))[:, :36], expected_tokens())


async def test_beside_neighbours_that_come_and_go(persona_model):
    found = {}

    async def talk(number, **options):
        await anyio.sleep(0.02 * number)
        found[number] = await tokens_of(persona_model, **options)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: talk(0, voice=WAV, **GREEDY))
        tasks.start_soon(lambda: talk(1, voice=PT, instructions="You hate it.", seed=4))
        tasks.start_soon(lambda: talk(2, voice=PT, **GREEDY))
    for number in (0, 2):
        np.testing.assert_array_equal(found[number][:, :36], expected_tokens())


async def test_a_shared_prompt_changes_no_token_whatever_the_seed():
    options = {"voice": WAV, "instructions": "You are a pirate.", "temperature": 1.0, "text_temperature": 1.0}
    alone = []
    for seed in (1, 2):
        with duplex.load(str(FOLDER), device="cpu") as model:
            alone.append(await tokens_of(model, seed=seed, **options))
    with duplex.load(str(FOLDER), device="cpu") as model:
        shared = [await tokens_of(model, seed=seed, **options) for seed in (1, 2)]
        fed = []
        prefill = model.frame_model.prefill
        model.frame_model.prefill = lambda slot, tokens: fed.append(tokens.shape[1]) or prefill(slot, tokens)
        again = await tokens_of(model, seed=1, **options)
    assert fed == [1], "the rest was fed once"
    np.testing.assert_array_equal(shared[0], alone[0])
    np.testing.assert_array_equal(shared[1], alone[1])
    np.testing.assert_array_equal(again, alone[0])
    assert (alone[0] != alone[1]).any()


async def test_few_prompts_are_kept(persona_model, monkeypatch):
    beginnings = persona_model.engine._beginnings
    monkeypatch.setattr(beginnings, "KEPT_PROMPTS", 2)
    for number in range(4):
        await tokens_of(persona_model, USER[:1920], instructions="good " * number + "conversation")
    assert len(beginnings._kept) == 2


@pytest.mark.parametrize("voice", [WAV, PT])
async def test_saved_and_resumed(persona_model, voice):
    recorder, options = Recorder(), duplex.SessionOptions(voice=voice, **GREEDY)
    async with duplex.Conversation(persona_model, options=options, recorder=recorder) as conversation:
        await conversation.send(USER[: 10 * 1920])
        while len(recorder) < 10:
            await anext(conversation)
        state = await conversation.export()
    rest = await tokens_of(persona_model, USER[10 * 1920 :], state=state)
    found = np.concatenate([recorder.tokens, rest], axis=1)
    np.testing.assert_array_equal(found[:, :36], expected_tokens())


async def test_on_another_backend_a_recorded_voice_goes_on_and_a_published_one_is_refused():
    with duplex.load(str(FOLDER), backend="torch", device="cpu") as first:
        states = {}
        for voice in (WAV, PT):
            options = duplex.SessionOptions(voice=voice, **GREEDY)
            async with duplex.Conversation(first, options=options) as conversation:
                await conversation.send(USER[: 10 * 1920])
                async for event in conversation:
                    if isinstance(event, duplex.AgentAudio) and event.at > 0.7:
                        break
                states[voice] = await conversation.export()
    with duplex.load(str(FOLDER), backend="mlx", device="cpu") as second:
        rest = await tokens_of(second, USER[10 * 1920 :], state=states[WAV])
        np.testing.assert_array_equal(rest[:, :26], expected_tokens()[:, 10:36])
        with pytest.raises(StateError, match="published voice"):
            await tokens_of(second, USER[10 * 1920 :], state=states[PT])


async def test_a_history_is_what_a_conversation_goes_on_from(persona_model):
    """Its own first half as known tokens, its second as sound."""
    whole = await tokens_of(persona_model, greedy=True)
    rest = await tokens_of(persona_model, USER[12 * 1920 :], greedy=True, history=whole[:, :12])
    assert rest.shape[1] == whole.shape[1] - 12
    history = {"history": whole[:, :12], "greedy": True, "instructions": PROMPT}
    assert (await tokens_of(persona_model, USER[12 * 1920 :], **history)).shape == rest.shape


@pytest.mark.parametrize("delays", [(0, 0, 1, 0, 1), (0, 0, 2, 0, 2)])
async def test_a_history_shifts_no_frame(models, delays):
    """Also where the first frames out are still of the history."""
    model, pcm = models(delays=delays), np.repeat(0.01 * np.arange(1, 11, dtype=np.float32), 1920)
    history = np.zeros((5, 7), np.int64)
    async with duplex.Conversation(model, history=history) as conversation:
        found = [event async for event in conversation.run(pcm) if isinstance(event, duplex.AgentAudio)]
    assert [round(event.at / 0.08) for event in found] == list(range(10))
    heard = np.concatenate([event.pcm for event in found])
    np.testing.assert_allclose(heard, heard[0] / pcm[0] * pcm, rtol=1e-5)


async def test_a_model_that_takes_no_persona_says_so(models):
    for options in ({"instructions": "Be kind."}, {"voice": "NATF2"}):
        with pytest.raises(UsageError, match=r"moshi.*personaplex"):
            duplex.Conversation(models(), options=duplex.SessionOptions(**options))


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"instructions": "so long " * 200}, UsageError, r"remembers 160 \(13 s\); shorten"),
        ({"voice": "nobody"}, UsageError, "there is no voice 'nobody'; choose among voice"),
        ({"voice": str(FOLDER / "config.json")}, AudioFileError, r"config\.json"),
        ({"history": np.zeros((3, 4), np.int64)}, UsageError, r"shape \[17, n\]"),
        ({"history": np.full((17, 4), 64)}, UsageError, "0 to 63"),
        ({"history": np.where(np.arange(17)[:, None] == 12, -2, np.zeros((17, 4), np.int64))}, UsageError, "row 12"),
    ],
)
async def test_what_cannot_begin_a_conversation(persona_model, options, error, match):
    with pytest.raises(error, match=match):
        await tokens_of(persona_model, **options)
    assert persona_model.free == persona_model.sessions


async def test_blank_instructions_are_none(persona_model):
    with_blank = await tokens_of(persona_model, USER[:9600], greedy=True, instructions="  \n", voice=WAV)
    without = await tokens_of(persona_model, USER[:9600], greedy=True, voice=WAV)
    np.testing.assert_array_equal(with_blank, without)
    other = await tokens_of(persona_model, USER[:9600], greedy=True, instructions="Говори по-русски 你好", voice=WAV)
    assert other.shape == without.shape
