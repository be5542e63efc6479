"""A captioned conversation: the words of both, as they are said, and as subtitles (WebVTT) for the recording.

python examples/cookbook/captions.py QUESTION.wav CAPTIONS.vtt --whisper small.en

The agent's words come from the model itself, the user's from Whisper, which hears each turn when it is over.
"""

import argparse

import anyio
import attrs

import duplex

PAUSE = 1.0
"""Seconds without a word of somebody's that end a caption."""


@attrs.define
class Caption:
    """What one of the two said."""

    who: str
    start: float
    end: float
    text: str

    def __str__(self) -> str:
        """Return it as WebVTT has it."""
        return f"{clock(self.start)} --> {clock(self.end)}\n<v {self.who}>{self.text.strip()}\n"


def clock(seconds: float) -> str:
    """Return `mm:ss.ttt`."""
    return f"{int(seconds // 60):02}:{seconds % 60:06.3f}"


def add(captions: list[Caption], who: str, start: float, end: float, text: str) -> None:
    """Add a word, or a piece of one, to the caption that it belongs to."""
    last = next((caption for caption in reversed(captions) if caption.who == who), None)
    if last is None or start - last.end > PAUSE:
        captions.append(last := Caption(who, start, end, ""))
    last.text, last.end = last.text + text, end


async def main(arguments: argparse.Namespace) -> None:
    """Caption a conversation."""
    captions: list[Caption] = []
    with await duplex.load_async("tiny") as model, duplex.WhisperTranscriber(arguments.whisper, language="en") as ears:
        transport = duplex.FileTransport(arguments.question)
        async with duplex.Conversation(model, transport, transcriber=ears) as conversation:
            async for event in conversation:
                match event:
                    case duplex.AgentText(text=piece, at=at):
                        add(captions, "Agent", at, at + 0.4, piece)
                    case duplex.UserText(text=word, start=start, end=end):
                        add(captions, "User", start, end, f" {word.strip()}")
                    case _:
                        pass
    captions.sort(key=lambda caption: caption.start)
    text = "WEBVTT\n\n" + "\n".join(map(str, captions))
    await anyio.Path(arguments.captions).write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", help="what the user says")
    parser.add_argument("captions", help="where the subtitles go")
    parser.add_argument("--whisper", default="small.en", help="a name that faster-whisper knows, or a folder")
    anyio.run(main, parser.parse_args())
