"""Recognition, a language model and synthesis, one after the other, with barge-in: an agent that takes turns.

python examples/turn_taking.py RECORDING REPLY.wav --ears kyutai/stt-1b-en_fr --mouth kyutai/tts-1.6b-en_fr --voice her

The language model is a stand-in that streams words. Put any other into ``respond``; a server that speaks OpenAI's chat
completions would be::

    stream = await client.chat.completions.create(model=..., messages=..., stream=True)
    async for chunk in stream:
        yield chunk.choices[0].delta.content or ""
"""

import argparse
from collections.abc import AsyncIterator, Callable

import anyio
import anyio.abc

import duplex
from duplex.audio.wav import WavWriter

PAUSE = 0.6
"""Seconds of silence after which it is the agent's turn."""
Respond = Callable[[list[str]], AsyncIterator[str]]


async def respond(said: list[str]) -> AsyncIterator[str]:
    """Stream an answer to what the user has said, turn by turn."""
    for word in f"You said: {said[-1]}. Please go on, I am listening.".split():
        await anyio.sleep(0.02)  # about what a language model takes
        yield f"{word} "


class Agent:
    """Answers each turn of the user, and falls silent when the user speaks."""

    def __init__(self, mouth: duplex.Model, voice: str | None, out: WavWriter, respond: Respond) -> None:
        self._mouth, self._voice, self._out, self._respond = mouth, voice, out, respond
        self._speaker: duplex.Speaker | None = None
        self.said: list[str] = []
        self.answers: list[tuple[str, duplex.EndReason | None]] = []
        """What has been heard of each answer, and how it ended."""

    def interrupt(self) -> None:
        """Fall silent at once: the user speaks."""
        if self._speaker is not None:
            self._speaker.interrupt()

    async def answer(self, words: str) -> None:
        """Say what the language model makes of the user's turn, as its words come."""
        self.interrupt()
        self.said.append(words)
        heard: list[str] = []
        reason: duplex.EndReason | None = None
        async with duplex.Speaker(self._mouth, voice=self._voice) as speaker:
            self._speaker = speaker
            async for event in speaker.say(self._respond(self.said)):
                match event:
                    case duplex.AgentAudio(pcm=pcm):
                        self._out.write(pcm)
                    case duplex.AgentText(text=word):
                        heard.append(word)
                    case duplex.SessionEnded():
                        reason = event.reason
                    case _:
                        pass
            if self._speaker is speaker:
                self._speaker = None
        self.answers.append((" ".join(heard), reason))
        print(f"user:  {words}\nagent: {' '.join(heard)} ({reason})")


async def listen(ears: duplex.Model, user: duplex.Transport, agent: Agent, tasks: anyio.abc.TaskGroup) -> None:
    """Gather the user's words, and give the agent its turn in the pauses."""
    words: list[str] = []
    silent_since: float | None = None
    async with duplex.Conversation(ears, user) as conversation:
        async for event in conversation:
            if isinstance(event, duplex.UserSpeechStarted):
                silent_since = None
                agent.interrupt()  # barge-in
            elif isinstance(event, duplex.UserSpeechStopped):
                silent_since = event.at
            elif isinstance(event, duplex.UserText):
                words.append(event.text.strip())
            pause = silent_since is not None and event.at - silent_since >= PAUSE
            if words and (pause or isinstance(event, duplex.SessionEnded)):
                tasks.start_soon(agent.answer, " ".join(words))
                words, silent_since = [], None


async def main(arguments: argparse.Namespace, respond: Respond = respond) -> Agent:
    """Answer a recording, and write what was said to a file."""
    with (
        duplex.load(arguments.ears) as ears,
        duplex.load(arguments.mouth, sessions=2) as mouth,
        WavWriter(arguments.out, channels=1, sample_rate=mouth.spec.sample_rate) as out,
    ):
        agent = Agent(mouth, arguments.voice, out, respond)
        async with anyio.create_task_group() as tasks:
            await listen(ears, duplex.FileTransport(arguments.recording), agent, tasks)
        out.commit()
    return agent


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", help="what the user says")
    parser.add_argument("out", help="what the agent says, a .wav file")
    parser.add_argument("--ears", default="kyutai/stt-1b-en_fr", help="a model of recognition")
    parser.add_argument("--mouth", default="kyutai/tts-1.6b-en_fr", help="a model of synthesis")
    parser.add_argument("--voice", help="a name of its voices, or a file")
    anyio.run(main, parser.parse_args())
