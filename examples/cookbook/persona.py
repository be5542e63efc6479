"""A persona from a text and a voice: the agent is who you say, and sounds like a recording of a few seconds.

python examples/cookbook/persona.py QUESTION.wav REPLY.wav --instructions "You work for a bakery." --voice VOICE.wav

It takes a model of the kind `personaplex`; --voice may also be a name of its voices.
"""

import argparse

import anyio

import duplex


async def main(arguments: argparse.Namespace) -> None:
    """Answer a recording in a role."""
    options = duplex.SessionOptions(instructions=arguments.instructions, voice=arguments.voice, seed=arguments.seed)
    with await duplex.load_async(arguments.model) as model:
        print(f"voices that come with the model: {', '.join(model.voices.names) or 'none'}")
        transport = duplex.FileTransport(arguments.question, arguments.reply)
        async with duplex.Conversation(model, transport, options=options) as conversation:
            words: list[str] = []
            async for event in conversation:
                match event:
                    case duplex.AgentText(text=piece):
                        words.append(piece)
                    case duplex.SessionEnded(reason=reason, usage=usage):
                        print(f"{reason}: {usage.seconds:.1f} s, {len(words)} pieces of text")
                    case _:
                        pass
    print("".join(words).strip())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", help="what the user says")
    parser.add_argument("reply", help="where the agent's voice goes, a .wav file")
    parser.add_argument("--instructions", help="who the agent is, and what it knows")
    parser.add_argument("--voice", help="a recording of one person, or a name")
    parser.add_argument("--model", default="nvidia/personaplex-7b-v1")
    parser.add_argument("--seed", type=int, default=0)
    try:
        anyio.run(main, parser.parse_args())
    except duplex.DuplexError as error:
        parser.exit(1, f"{error}\n")
