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
"""Seconds of silence, once the last words are recognised, after which it is the agent's turn."""
Respond = Callable[[list[str]], AsyncIterator[str]]


async def respond(said: list[str]) -> AsyncIterator[str]:
    """Stream an answer to what the user has said, turn by turn."""
    for word in f"You said: {said[-1]}. Please go on, I am listening.".split():
        await anyio.sleep(0.02)  # about what a language model takes
        yield f"{word} "


class Agent:
    """Answers each turn of the user, and falls silent when the user speaks."""

    def __init__(
        self, mouth: duplex.Model, voice: str | None, out: WavWriter, respond: Respond, tasks: anyio.abc.TaskGroup
    ) -> None:
        self._mouth, self._voice, self._out, self._respond, self._tasks = mouth, voice, out, respond, tasks
        self._speaker: duplex.Speaker | None = None
        self._turn = 0
        self.said: list[str] = []
        self.answers: list[tuple[str, duplex.EndReason]] = []
        """What has been heard of each answer, and how it ended."""

    def interrupt(self) -> None:
        """Fall silent at once: the user speaks. An answer that is only about to begin is none."""
        self._turn += 1
        if self._speaker is not None:
            self._speaker.interrupt()

    def answer(self, words: str) -> None:
        """Begin to answer what the user has said."""
        self.interrupt()
        self.said.append(words)
        self._tasks.start_soon(self._answer, [*self.said], self._turn)

    async def _answer(self, said: list[str], turn: int) -> None:
        """Say what the language model makes of it, as its words come."""
        heard: list[str] = []
        async with duplex.Speaker(self._mouth, voice=self._voice) as speaker:
            speech = speaker.say(self._respond(said))
            if turn == self._turn:
                self._speaker = speaker
            else:
                speaker.interrupt()
            async for event in speech:
                match event:
                    case duplex.AgentAudio(pcm=pcm):
                        self._out.write(pcm)  # or to a loudspeaker
                    case duplex.AgentText(text=word):
                        heard.append(word)
                    case duplex.SessionEnded(reason=reason):
                        self.answers.append((" ".join(heard), reason))
                        print(f"user:  {said[-1]}\nagent: {' '.join(heard)} ({reason})")
                    case _:
                        pass
            if self._speaker is speaker:
                self._speaker = None


class Listener:
    """Gathers the user's words, and gives the agent its turn in the pauses. It is told of every frame: its clock."""

    def __init__(self, ears: duplex.Model, agent: Agent) -> None:
        self._ears, self._agent = ears, agent
        self._words: list[str] = []
        self._silent_since: float | None = None
        self._now = 0.0
        self._wait = PAUSE + (ears.stt.audio_delay_seconds if ears.stt else 0)

    async def run(self, user: duplex.Transport) -> None:
        """Listen to the end."""
        async with duplex.Conversation(self._ears, user, recorder=self) as conversation:
            async for event in conversation:
                match event:
                    case duplex.UserSpeechStarted():
                        self._silent_since = None
                        self._agent.interrupt()  # barge-in
                    case duplex.UserSpeechStopped(at=at):
                        self._silent_since = at
                    case duplex.UserText(text=text):
                        self._words.append(text)
                    case _:
                        pass
                self._end_turn_after_silence()
        self._end_turn()

    def record(self, frame: duplex.Frame) -> None:
        """Take a frame."""
        self._now = frame.at
        self._end_turn_after_silence()

    def _end_turn_after_silence(self) -> None:
        if self._silent_since is not None and self._now >= self._silent_since + self._wait:
            self._end_turn()

    def _end_turn(self) -> None:
        words, self._words, self._silent_since = self._words, [], None
        if words:
            self._agent.answer(" ".join(words))


async def main(
    arguments: argparse.Namespace, respond: Respond = respond, user: duplex.Transport | None = None
) -> Agent:
    """Answer a recording, or a line such as ``duplex.MicrophoneTransport()``, and write what was said to a file."""
    with (
        duplex.load(arguments.ears) as ears,
        duplex.load(arguments.mouth, sessions=2) as mouth,
        WavWriter(arguments.out, channels=1, sample_rate=mouth.spec.sample_rate) as out,
    ):
        async with anyio.create_task_group() as tasks:
            agent = Agent(mouth, arguments.voice, out, respond, tasks)
            await Listener(ears, agent).run(user or duplex.FileTransport(arguments.recording))
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
