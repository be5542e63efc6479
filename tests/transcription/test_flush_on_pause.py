"""The silence that a recognition model hears when the user stops: the last words at once, and times as without."""

import anyio
import attrs
import numpy as np
import pytest

import duplex
from duplex.errors import UsageError
from duplex.transcription.words import placement_of
from recognition_support import FRAME, RATE

pytestmark = pytest.mark.anyio
SECONDS = FRAME / RATE


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@pytest.fixture(scope="module")
def model(recognizer_with_heads):
    with duplex.load(str(recognizer_with_heads.folder), backend="torch", device="cpu", sessions=2) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def pcm():
    """Four seconds in which loudness, and with it the model's mind, changes."""
    random = np.random.default_rng(4)
    loudness = np.repeat(random.uniform(0.0, 0.5, 10), 5 * FRAME)
    return (loudness * random.uniform(-1, 1, len(loudness))).astype(np.float32)


class Kept:
    def __init__(self):
        self.frames = []

    def record(self, frame):
        self.frames.append(frame)


async def heard(model, pcm, **options):
    async with duplex.Conversation(model, **options) as conversation:
        return [event async for event in conversation.run(pcm)]


def words_of(events):
    return [(event.text, event.start, event.end) for event in events if isinstance(event, duplex.UserText)]


def pauses_of(frames, placement):
    """Return after how many frames each pause was told, by the rule of turns on what the heads said."""
    speaking, found = False, []
    for index, frame in enumerate(frames[: -placement.flush]):
        pause = float(frame.heads[2, 0]) if index >= 12 else 1.0
        if speaking and 1 - pause < 0.35:
            found.append(index + 1)
        speaking = 1 - pause >= (0.35 if speaking else 0.5)
    return found


def with_silence(pcm, pauses, placement):
    """Return the audio with the silence in it, and for each of its frames (and the lead's) where it belongs."""
    pieces, places, before = [], [], 0
    lead = placement.lead
    padded = np.pad(pcm, (lead, 0))
    for pause in pauses:
        pieces += [padded[before * FRAME : pause * FRAME], np.zeros(placement.flush * FRAME, np.float32)]
        places += [*range(before, pause), *[pause] * placement.flush]
        before = pause
    pieces.append(padded[before * FRAME :])
    places += range(before, before + len(padded) // FRAME + 200)
    return np.concatenate(pieces)[lead:], places


def in_place(words, places, lead):
    """Return words of audio with silence in it where they belong in the audio without."""

    def moved(at):
        return round(max(places[round((at + lead) / SECONDS)] * SECONDS - lead, 0.0), 6)

    return [(text, moved(start), moved(end)) for text, start, end in words]


def near(words):
    return [(text, round(start, 6), round(end, 6)) for text, start, end in words]


async def test_words_are_those_of_audio_with_the_silence_in_it_at_the_times_without(model, pcm):
    placement, kept = placement_of(model), Kept()
    found = words_of(await heard(model, pcm, flush_on_pause=True, recorder=kept))
    pauses = pauses_of(kept.frames, placement)
    assert len(pauses) >= 2
    assert [round(frame.at / SECONDS) for frame in kept.frames] == list(range(len(kept.frames)))
    longer, places = with_silence(pcm, pauses, placement)
    lead = placement.lead / RATE
    # Times of words before the audio are those of its beginning in both, so the model's own are compared.
    expected = in_place(words_of(await heard(model, longer)), places, lead)
    assert near(found) == expected
    assert found != words_of(await heard(model, pcm))


async def test_words_before_the_first_pause_are_those_without(model, pcm):
    plain = await heard(model, pcm)
    flushed = await heard(model, pcm, flush_on_pause=True)
    first = next(index for index, event in enumerate(plain) if isinstance(event, duplex.UserSpeechStopped))
    assert flushed[1 : first + 1] == plain[1 : first + 1]


async def test_the_last_words_come_without_further_audio(model, pcm):
    placement, kept = placement_of(model), Kept()
    everything = await heard(model, pcm, flush_on_pause=True, recorder=kept)
    pause = pauses_of(kept.frames, placement)[1]
    _, stopped, *_ = (index for index, event in enumerate(everything) if isinstance(event, duplex.UserSpeechStopped))
    told = pause * FRAME - placement.lead
    until = (pause - 0.5) * SECONDS - placement.lead / RATE  # later ones may be of tokens after the silence
    rest = everything[stopped + 1 :]
    last_words = [event for event in rest if isinstance(event, duplex.UserText) and event.end < until]
    assert last_words
    async with duplex.Conversation(model, flush_on_pause=True) as conversation:
        await conversation.send(pcm[:told])
        found = []
        with anyio.fail_after(60):
            while words_of(found)[-1:] != words_of(last_words)[-1:]:
                found.append(await anext(conversation))
    assert found[1:] == everything[1 : len(found)]


async def test_a_pause_in_the_silence_after_the_audio_changes_nothing(model, pcm):
    """What comes after the audio brings the last words already."""
    kept = Kept()
    await heard(model, pcm, flush_on_pause=True, recorder=kept)
    placement = placement_of(model)
    first = pauses_of(kept.frames, placement)[0]
    cut = pcm[: (first - 1) * FRAME - placement.lead]
    plain = await heard(model, cut)
    assert (await heard(model, cut, flush_on_pause=True))[1:] == plain[1:]


@pytest.mark.parametrize("cut", [20, 45])
async def test_a_conversation_goes_on_where_it_was_saved(model, pcm, cut):
    whole = words_of(await heard(model, pcm, flush_on_pause=True))
    place = cut * FRAME - placement_of(model).lead
    async with duplex.Conversation(model, flush_on_pause=True) as conversation:
        await conversation.send(pcm[:place])
        saved = await conversation.export()
        while duplex.Conversation(model, state=saved).resume_at < place / RATE:
            await anyio.sleep(0.01)
            saved = await conversation.export()
    async with duplex.Conversation(model, state=saved, flush_on_pause=True) as conversation:
        after = words_of([event async for event in conversation.run(pcm[place:])])
    assert len(after) >= 2
    assert after == whole[-len(after) :]


@pytest.mark.parametrize("turn", [30, 45])
async def test_beside_another_model_the_end_of_a_turn_flushes(model, pcm, turn):
    placement = placement_of(model)

    async def transcribed(pcm, turns, **options):
        transcription = duplex.SttTranscriber(model, **options).open(RATE, realtime=False)
        found = []

        async def receive():
            try:
                while True:
                    found.extend(await transcription.receive())
            except anyio.EndOfStream:
                transcription.close()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive)
            for index in range(len(pcm) // FRAME):
                transcription.hear(index * SECONDS, pcm[index * FRAME : (index + 1) * FRAME])
                if index + 1 in turns:
                    transcription.turn(started=True, at=index * SECONDS)
                    transcription.turn(started=False, at=index * SECONDS)
                await transcription.room()
            transcription.finish()
        return [attrs.astuple(word) for word in found]

    found = await transcribed(pcm, [turn], flush_on_pause=True)
    # Half of a frame is still waiting for its other half: the silence before the audio is 12.5 frames.
    pause = (placement.lead + turn * FRAME) // FRAME
    longer, places = with_silence(pcm, [pause], placement)
    plain = await transcribed(longer, [turn])
    assert near(found) == in_place(plain, places, placement.lead / RATE)
    assert await transcribed(pcm, [turn]) == await transcribed(pcm, [])


async def test_only_a_recognition_model_flushes():
    with duplex.load("tiny") as tiny, pytest.raises(UsageError, match="leave flush_on_pause out"):
        duplex.Conversation(tiny, flush_on_pause=True)


async def test_the_turns_follow_the_pause_head(model, pcm):
    kept = Kept()
    events = await heard(model, pcm, recorder=kept)
    stopped = [event for event in events if isinstance(event, duplex.UserSpeechStopped)]
    placement = placement_of(model)
    pauses = pauses_of(kept.frames, placement)
    lead = placement.lead / RATE
    expected = [max((pause - 1) * SECONDS - lead, 0.0) for pause in pauses]
    assert [event.at for event in stopped][: len(pauses)] == pytest.approx(expected)
    assert [event.probability for event in stopped][: len(pauses)] == pytest.approx(
        [1 - float(kept.frames[pause - 1].heads[2, 0]) for pause in pauses]
    )
