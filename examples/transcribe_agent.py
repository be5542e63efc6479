"""Run a recording through a model and print what the agent says, and when the user speaks.

python examples/transcribe_agent.py [RECORDING [MODEL]]
"""

import sys
from pathlib import Path

import anyio

import duplex

QUESTION = Path(__file__).with_name("question.wav")


async def main(recording: str | Path = QUESTION, name: str = "tiny") -> None:
    """Print the events that have words in them."""
    with await duplex.load_async(name) as model:
        async with duplex.Conversation(model, duplex.FileTransport(recording)) as conversation:
            async for event in conversation:
                match event:
                    case duplex.UserSpeechStarted(at=at):
                        print(f"{at:6.2f} s  (the user begins to speak)")
                    case duplex.UserSpeechStopped(at=at):
                        print(f"{at:6.2f} s  (the user stops)")
                    case duplex.AgentText(at=at, text=piece):
                        print(f"{at:6.2f} s  {piece!r}")
                    case duplex.SessionEnded(usage=usage):
                        print(f"{usage.frames} frames, {usage.seconds:.2f} s")


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
