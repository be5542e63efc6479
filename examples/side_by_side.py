"""Three conversations on one loaded model at the same time, each with options of its own.

python examples/side_by_side.py
"""

from pathlib import Path

import anyio

import duplex

QUESTION = Path(__file__).with_name("question.wav")


async def converse(model: duplex.Model, seed: int) -> None:
    """Hold one conversation to its end and print what was said in it."""
    transport = duplex.FileTransport(QUESTION)
    options = duplex.SessionOptions(seed=seed, temperature=0.6)
    async with duplex.Conversation(model, transport, options=options) as conversation:
        pieces = [event.text async for event in conversation if isinstance(event, duplex.AgentText)]
    print(f"seed {seed}: {''.join(pieces)!r}")


async def main() -> None:
    """Share one model between three conversations."""
    with await duplex.load_async("tiny", sessions=3) as model:
        async with anyio.create_task_group() as conversations:
            for seed in range(model.sessions):
                conversations.start_soon(converse, model, seed)


if __name__ == "__main__":
    anyio.run(main)
