"""Texts that are saved while they are said: the same words and sound afterwards as unmoved, on both backends."""

import json

import anyio
import numpy as np
import pytest
from safetensors.numpy import load, save
from test_speaker import EXPECTED, GREEDY, model

import duplex
from duplex import AgentAudio, AgentText, SessionStarted, Speaker, UsageError
from duplex.errors import ClosedError, StateError

__all__ = ["model"]
pytestmark = pytest.mark.anyio
VOICES = ("first.wav", "second.wav")
TURNS = EXPECTED["turns"]
TEXT = " ".join(TURNS)


def told(events):
    """Return what is heard and read of events, in their order."""
    return [
        (round(event.at, 6), event.text if isinstance(event, AgentText) else event.pcm.tobytes())
        for event in events
        if isinstance(event, AgentText | AgentAudio)
    ]


async def whole(model, text):
    async with Speaker(model, voice=VOICES, options=GREEDY) as speaker:
        return told([event async for event in speaker.say(text)])


@pytest.mark.parametrize("after", [0, 1, 2, 19, 40])
async def test_the_same_words_and_sound_wherever_it_is_saved(model, after):
    async with Speaker(model, voice=VOICES, options=GREEDY) as speaker:
        events = speaker.say(TURNS)
        before = [await anext(events) for _ in range(after)]
        saved = await speaker.export()
        stayed = [event async for event in events]
    async with Speaker(model, state=saved) as again:
        moved = [event async for event in again.say()]
    assert isinstance(moved[0], SessionStarted)
    assert [event.sequence for event in moved] == list(range(after, after + len(moved)))
    expected = await whole(model, TURNS)
    assert told(before + stayed) == expected
    assert told(before + moved) == expected
    assert moved[-1].usage == stayed[-1].usage


async def test_saved_again_and_again(model):
    heard, saved = [], None
    expected = await whole(model, TEXT)
    while len(heard) < len(expected):
        options = {"voice": VOICES, "options": GREEDY} if saved is None else {"state": saved}
        async with Speaker(model, **options) as speaker:
            events, count = speaker.say(TEXT if saved is None else ""), 0
            async for event in events:
                heard += told([event])
                count += isinstance(event, AgentAudio)
                if count == 7:
                    saved = await speaker.export()
                    break
            else:
                break
    assert heard == expected


async def test_a_text_in_pieces_goes_on_with_what_follows(model):
    """Saved by another task while the text is waited for, within a word."""
    cut = len(TEXT) // 2 + 1
    waiting, found = anyio.Event(), []

    async def first():
        yield TEXT[:cut]
        waiting.set()
        await anyio.sleep_forever()

    async def rest():
        yield TEXT[cut:]

    async with Speaker(model, voice=VOICES, options=GREEDY) as speaker, anyio.create_task_group() as tasks:

        async def listen():
            async for event in speaker.say(first()):
                found.append(event)

        tasks.start_soon(listen)
        await waiting.wait()
        saved = await speaker.export()
        tasks.cancel_scope.cancel()
    async with Speaker(model, state=saved) as again:
        found += [event async for event in again.say(rest())]
    assert told(found) == await whole(model, TEXT)


async def test_a_caller_who_gave_up_waiting_for_a_step(model):
    async with Speaker(model, voice=VOICES, options=GREEDY) as speaker:
        events, found = speaker.say(TURNS), []
        while sum(isinstance(event, AgentAudio) for event in found) < 3:
            with anyio.move_on_after(0.0005):
                found.append(await anext(events))
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anext(events)
        saved = await speaker.export()
    async with Speaker(model, state=saved) as again:
        found += [event async for event in again.say()]
    assert told(found) == await whole(model, TURNS)


async def test_what_cannot_be_saved_or_restored(model):
    async with Speaker(model, voice=VOICES, options=GREEDY) as speaker:
        with pytest.raises(UsageError, match="nothing is being said"):
            await speaker.export()
        events = speaker.say(TURNS)
        for _ in range(12):
            await anext(events)
        saved = await speaker.export()
        speaker.interrupt()
        _ = [event async for event in events]
        with pytest.raises(ClosedError, match="has been said"):
            await speaker.export()
    for given in ({"voice": "first.wav"}, {"options": GREEDY}):
        with pytest.raises(UsageError, match="of its own"):
            Speaker(model, state=saved, **given)
    async with Speaker(model, state=saved) as again:
        with pytest.raises(UsageError, match="goes on by itself"):
            again.say("More.")


async def test_damaged_states_are_refused(model):
    async with Speaker(model, voice=VOICES, options=GREEDY) as speaker:
        events = speaker.say(TURNS)
        for _ in range(12):
            await anext(events)
        saved = await speaker.export()
    tensors = load(saved)
    length = int.from_bytes(saved[:8], "little")
    metadata = json.loads(saved[8 : 8 + length])["__metadata__"]
    speech = bytes(tensors["session.speech"])
    damaged = [
        saved[:-100],
        b"",
        save({name: each for name, each in tensors.items() if name != "session.speech"}, metadata),
        save(tensors | {"session.speech_pcm": np.zeros((3, 5), np.float32)}, metadata),
        *(
            save(tensors | {"session.speech": np.frombuffer(changed, np.uint8)}, metadata)
            for changed in (
                speech[:50],
                speech.replace(b'"entries": [[', b'"entries": [[[9], "x", 1], ['),
                speech.replace(b'"words": [', b'"words": ["x", '),
                speech.replace(b'"progress": [', b'"progress": [1'),
                speech.replace(b'"frames": ', b'"frames": -'),
                speech.replace(b'"step": ', b'"step": "x", "s": '),
                speech.replace(b'"told": [', b'"told": [[0, null], '),
                b"[]",
            )
        ),
    ]
    for each in damaged:
        assert each != saved
        with pytest.raises(StateError):
            Speaker(model, state=each)


async def test_a_state_of_another_model_is_refused_on_entering(model, models):
    async with duplex.Conversation(models()) as conversation:
        await conversation.send(np.zeros(1920, np.float32))
        foreign = await conversation.export()
    with pytest.raises(StateError):
        Speaker(model, state=foreign)
    async with Speaker(model, voice=VOICES, options=GREEDY) as speaker:
        await anext(speaker.say(TURNS))
        saved = await speaker.export()
    other = saved.replace(b'"fingerprint":"tts"', b'"fingerprint":"ttz"')
    assert other != saved
    free = model.free
    with pytest.raises(StateError):
        async with Speaker(model, state=other):
            pass
    assert model.free == free
