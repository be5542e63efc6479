"""Two agents that talk to each other: each hears what the other says, one frame later.

python examples/cookbook/two_agents.py OPENING.wav DIALOGUE.wav --seconds 20

The first one hears the opening, too, so that there is something to talk about. Both share one loaded model.
"""

import argparse

import anyio
import anyio.abc
import numpy as np

import duplex
from duplex.audio.wav import WavWriter

Line = anyio.abc.ObjectSendStream[np.ndarray]


async def speak(name: str, conversation: duplex.Conversation, said: Line) -> None:
    """Hand on each frame that one of them says, and print its words."""
    words: list[str] = []
    async with said:
        async for event in conversation:
            match event:
                case duplex.AgentAudio(pcm=pcm):
                    await said.send(pcm)
                case duplex.AgentText(text=piece):
                    words.append(piece)
                case duplex.AgentSpeechStopped(at=at) if words:
                    print(f"{at:6.2f} {name}: {''.join(words).strip()}", flush=True)
                    words.clear()
                case _:
                    pass


async def opening(path: str, model: duplex.Model) -> np.ndarray:
    """Return a recording at the model's rate, float32 [samples]."""
    transport, pieces = duplex.FileTransport(path), []
    await transport.start(model.spec.sample_rate)
    try:
        while True:
            pieces.append(await transport.receive())
    except anyio.EndOfStream:
        await transport.aclose()
        return np.concatenate(pieces)


async def main(arguments: argparse.Namespace) -> None:
    """Let them talk for a while, and keep what they say: the first on the left, the second on the right."""
    with await duplex.load_async("tiny", sessions=2) as model:
        size, rate = model.spec.frame_size, model.spec.sample_rate
        frames = round(arguments.seconds * rate / size)
        first = np.zeros(frames * size, np.float32)
        heard = (await opening(arguments.opening, model))[: len(first)]
        first[: len(heard)] = heard
        lines = [anyio.create_memory_object_stream[np.ndarray](4) for _ in range(2)]
        left, right = duplex.Conversation(model), duplex.Conversation(model)
        with WavWriter(arguments.dialogue, channels=2, sample_rate=rate) as out:
            async with left, right, anyio.create_task_group() as tasks:
                tasks.start_soon(speak, "A", left, lines[0][0])
                tasks.start_soon(speak, "B", right, lines[1][0])
                said = np.zeros((2, size), np.float32)
                for frame in first.reshape(frames, size):
                    await left.send(said[1] + frame)
                    await right.send(said[0])
                    said = np.stack([await line[1].receive() for line in lines])
                    out.write(said.T)
                await left.finish()
                await right.finish()
            out.commit()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("opening", help="what the first one hears at the beginning")
    parser.add_argument("dialogue", help="where both voices go, a .wav file")
    parser.add_argument("--seconds", type=float, default=20)
    anyio.run(main, parser.parse_args())
