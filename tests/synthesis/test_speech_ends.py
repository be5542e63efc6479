"""How a speech ends that does not come to its end: nothing to say, a text that raises, an interruption."""

import anyio
import pytest

from duplex import AgentAudio, EndReason, SessionEnded, SessionOptions, SessionStarted, Speaker, UsageError, load
from duplex.errors import ModelError
from imitation_support import write_checkpoint

pytestmark = pytest.mark.anyio
GREEDY = SessionOptions(greedy=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    with load(str(write_checkpoint(tmp_path_factory.mktemp("tts"), "tts")), device="cpu", sessions=2) as made:
        yield made


async def collected(speech):
    events = []
    try:
        async for event in speech:
            events.append(event)  # noqa: PERF401 -- what came before an error is kept
    except (OSError, UsageError, ModelError) as error:
        return events, error
    return events, None


async def pieces(*parts, error=None):
    for part in parts:
        yield part
    if error is not None:
        raise error


@pytest.mark.parametrize("text", ["", "   ", [], pieces()])
async def test_nothing_to_say_ends_at_once(model, text):
    async with Speaker(model, options=GREEDY) as speaker:
        events, error = await collected(speaker.say(pieces() if hasattr(text, "aclose") else text))
    assert error is None
    assert [type(event) for event in events] == [SessionStarted, SessionEnded]
    assert events[-1].usage.frames == 0


async def test_a_script_that_the_model_does_not_know(model):
    async with Speaker(model, options=GREEDY) as speaker:
        events, error = await collected(speaker.say("你好 世界"))
    assert isinstance(error, UsageError)
    assert "no pieces for any word of the text, of '你好'" in str(error)
    assert events[-1].reason is EndReason.FAILED


async def test_a_text_that_raises(model):
    async with Speaker(model, options=GREEDY) as speaker:
        raised = ConnectionResetError("the language model has gone")
        speech = speaker.say(pieces("Hello, how are you ", "this morning ", error=raised))
        events, error = await collected(speech)
        assert error is raised
        assert events[-1].reason is EndReason.FAILED
        assert any(isinstance(event, AgentAudio) for event in events) or events[-1].usage.frames == 0
        assert await collected(speech) == ([], None)
    assert model.free == model.sessions


async def test_interruption_while_the_text_waits(model):
    waits, closed = anyio.Event(), anyio.Event()

    async def endless():
        try:
            yield "Hello, how are you this morning "
            waits.set()
            await anyio.sleep_forever()
        finally:
            closed.set()

    async with Speaker(model, options=GREEDY) as speaker, anyio.create_task_group() as tasks:
        found = []

        async def consume():
            found.extend((await collected(speaker.say(endless())))[0])

        tasks.start_soon(consume)
        await waits.wait()
        speaker.interrupt()
    assert closed.is_set()
    assert found[-1].reason is EndReason.INTERRUPTED
    assert model.free == model.sessions


async def test_interruption_leaves_no_sound_behind(model):
    async with Speaker(model, options=GREEDY) as speaker:
        kinds = []
        async for event in speaker.say("Hello, how are you this morning?"):
            kinds.append(type(event))
            if isinstance(event, AgentAudio):
                speaker.interrupt()
                speaker.interrupt()
    assert kinds.count(AgentAudio) == 1
    assert kinds[-1] is SessionEnded


async def test_one_text_and_what_a_speaker_does_not_take(model):
    async with Speaker(model, options=GREEDY) as speaker:
        speaker.interrupt()  # of nothing
        await collected(speaker.say(""))
        with pytest.raises(UsageError, match="says one text"):
            speaker.say("again")
    for options, match in [
        (SessionOptions(codebooks=7), "this model has 6, so give 1 to 6"),
        (SessionOptions(instructions="be kind"), "takes no instructions"),
    ]:
        with pytest.raises(UsageError, match=match):
            Speaker(model, options=options)
    for wrong in ({"codebooks": 0}, {"padding_bonus": float("nan")}, {"padding_between": -1}, {"codebooks": 2.5}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            SessionOptions(**wrong)
