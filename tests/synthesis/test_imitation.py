"""Texts in the voice of a recording: the published program's words, times, codes and sound, and what is no voice."""

import json
import os
from pathlib import Path

import anyio
import attrs
import numpy as np
import pytest
from safetensors.numpy import load_file

import duplex
from duplex import AgentAudio, AgentText, AudioFileError, SessionOptions, Speaker, UsageError
from duplex.frame_model import ZERO
from imitation_support import EXPECTED, FAMILY, FRAME, RATE, write_checkpoint, write_voice, write_wav

pytestmark = pytest.mark.anyio
WHOLE = os.environ.get("DUPLEX_FAMILY_REFERENCE")
GREEDY = SessionOptions(greedy=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = write_checkpoint(tmp_path_factory.mktemp("imitation"), "tts-cfg", conditions=False)
    write_voice(made / "her.wav")
    (made / "voices").mkdir()
    for name in ("torch", "mlx"):
        write_voice(made / "voices" / f"{name}.wav", frames=13)
    return made


@pytest.fixture(scope="module", params=["torch", "mlx"])
def model(request, folder):
    with duplex.load(str(folder), backend=request.param, device="cpu", dtype="float32", sessions=3) as made:
        yield made


class Watched:
    """The codes of the frames that the slots of a model give."""

    def __init__(self, model, monkeypatch):
        self.codes = {slot: [] for slot in range(model.sessions)}
        self.fed = []
        step, prefill = model.frame_model.step, model.frame_model.prefill

        def stepped(pcm, active):
            result = step(pcm, active)
            for slot in np.flatnonzero(result.valid):
                self.codes[slot].append(result.agent[slot].copy())
            return result

        def prefilled(slot, tokens):
            self.fed.append(tokens.shape[1])
            prefill(slot, tokens)

        monkeypatch.setattr(model.frame_model, "step", stepped)
        monkeypatch.setattr(model.frame_model, "prefill", prefilled)


async def said(model, text, voice, **options):
    async with Speaker(model, voice=voice, options=attrs.evolve(GREEDY, **options)) as speaker:
        return [event async for event in speaker.say(text)]


def heard(events):
    return np.concatenate([event.pcm for event in events if isinstance(event, AgentAudio)])


def words_of(events):
    return [(event.text, round(event.at * 12.5)) for event in events if isinstance(event, AgentText)]


def expected_words(run):
    """Times count from the end of the voice."""
    return [(word, step - run["prefix_frames"]) for word, step in run["transcript"]]


@pytest.mark.parametrize("name", ["main", "cfg1"])
async def test_what_the_published_program_says(model, folder, monkeypatch, name):
    run, watched = EXPECTED[name], Watched(model, monkeypatch)
    found = await said(model, run["turns"][0], folder / "her.wav", guidance=run["guidance"])
    assert words_of(found) == expected_words(run)
    codes, expected = np.array(watched.codes[0]).T, np.array(run["audio"])
    np.testing.assert_array_equal(codes, expected[:, -codes.shape[1] :])
    assert codes.shape[1] >= run["steps"] - run["prefix_frames"] - 2 - 4
    levels = np.sqrt(np.square(heard(found).reshape(-1, FRAME)).mean(axis=1))
    np.testing.assert_allclose(levels, run["levels"][run["prefix_frames"] :], atol=2e-6)
    np.testing.assert_allclose([event.at for event in found if isinstance(event, AgentAudio)][:3], [0, 0.08, 0.16])


async def test_a_voice_by_name_is_fed_once_and_the_same_beside_others(model, monkeypatch):
    watched, run, found = Watched(model, monkeypatch), EXPECTED["main"], {}

    async def speak(number, **options):
        found[number] = await said(model, run["turns"][0], model.backend, guidance=2.0, **options)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(speak, 0)
        tasks.start_soon(speak, 1)
        tasks.start_soon(speak, 2)
    assert sum(columns for columns in watched.fed if columns > 1) <= 9, "the columns but the last, for one of them"
    assert words_of(found[0]) == words_of(found[1]) == words_of(found[2])
    np.testing.assert_allclose(heard(found[0]), heard(found[1]), atol=1e-5)  # neighbours change how it is rounded
    await speak(3, padding_bonus=50.0)
    assert words_of(found[3])[-1][1] > words_of(found[0])[-1][1], "the option is this session's, the voice shared"


async def test_a_voice_in_fewer_codebooks(model, folder, monkeypatch):
    watched = Watched(model, monkeypatch)
    found = await said(model, "listen to the river", folder / "her.wav", codebooks=4)
    whole = await said(model, "listen to the river", folder / "her.wav")
    codes = np.array(watched.codes[0])[: len(watched.codes[0]) // 2]
    assert (codes[:, 4:] == ZERO).all()
    assert (codes[:, :4] >= 0).all()
    assert len(words_of(found)) == len(words_of(whole)) == 4
    assert len(heard(found)) != len(heard(whole)) or not np.array_equal(heard(found), heard(whole))


async def test_a_voice_shorter_than_the_delay(model, tmp_path):
    """Half a second: five of its frames are left, and four steps pass before its first code is due."""
    voice = write_voice(tmp_path / "short.wav", frames=6)
    first, again = [await said(model, "listen to the river", voice) for _ in range(2)]
    assert [word for word, _ in words_of(first)] == ["listen", "to", "the", "river"]
    np.testing.assert_allclose(heard(first), heard(again), atol=1e-5)


async def test_what_is_no_voice(model, folder, tmp_path):
    ten_minutes = write_wav(tmp_path / "long.wav", np.tile(np.arange(-9000, 9000, 100), 80_000))
    silent = write_wav(tmp_path / "silent.wav", np.zeros(3 * RATE))
    click = write_wav(tmp_path / "click.wav", np.full(RATE // 10, 9000))
    for given, error, match in [
        (folder / "config.json", AudioFileError, "config.json"),
        (silent, AudioFileError, "silence"),
        (click, AudioFileError, r"needs 0\.4 s"),
        (ten_minutes, AudioFileError, "longer than 60 s"),
        (FAMILY / "personaplex" / "voices" / "voice.pt", AudioFileError, r"voice\.pt"),
        (write_voice_of(tmp_path, 40), UsageError, "model remembers 25"),
        ("nobody", UsageError, "no voice 'nobody'"),
        ([folder / "her.wav"] * 2, UsageError, "speaks with one voice, and 2 were given"),
    ]:
        with pytest.raises(error, match=match):
            await said(model, "Hello", given)
        assert model.free == model.sessions


def write_voice_of(folder, frames):
    """A recording longer than the model's context."""
    tone = 9000 * np.sin(np.arange(frames * FRAME) / 20)
    return write_wav(folder / "context.wav", tone)


@pytest.mark.skipif(not WHOLE, reason="not in the repository")
@pytest.mark.parametrize("backend", ["torch", "mlx"])
async def test_the_whole_reference(backend, monkeypatch):
    folder = Path(WHOLE or "") / "tts-prefix"
    run, tensors = json.loads((folder / "expected.json").read_text()), load_file(folder / "expected.safetensors")
    with duplex.load(str(folder), backend=backend, device="cpu", dtype="float32") as model:
        watched = Watched(model, monkeypatch)
        found = await said(model, run["turns"][0], folder / "prefix.wav", guidance=2.0)
    assert words_of(found) == expected_words(run["main"])
    codes = np.array(watched.codes[0]).T
    np.testing.assert_array_equal(codes, tensors["audio"][:, -codes.shape[1] :])
    np.testing.assert_allclose(heard(found), tensors["pcm"][run["main"]["prefix_frames"] * FRAME :], atol=1e-5)
