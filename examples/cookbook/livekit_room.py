"""The agent as a participant of a LiveKit room: it hears who speaks there, and speaks to all.

LIVEKIT_URL=ws://127.0.0.1:7880 LIVEKIT_TOKEN=... python examples/cookbook/livekit_room.py http://127.0.0.1:8998

The model runs in `duplex serve`; here is no PyTorch: pip install "duplex-speech[client]" livekit. For an agent with
LiveKit's own framework, see examples/livekit_duplex.py.
"""

import asyncio
import os
import sys

import numpy as np
from livekit import rtc

import duplex

RATE = 24000


async def converse(url: str, track: rtc.Track, voice: rtc.AudioSource) -> list[str]:
    """Let the model hear a track of the room and speak into a source; return its words, when the track ends."""
    words: list[str] = []
    async with duplex.connect(url) as conversation:
        listening: asyncio.Task[None] | None = None
        async for event in conversation:
            match event:
                case duplex.SessionStarted():  # nobody hears what is sent before
                    listening = asyncio.create_task(listen(track, conversation))
                case duplex.AgentAudio(pcm=pcm):
                    samples = (pcm.clip(-1, 1) * 32767).astype(np.int16)
                    await voice.capture_frame(rtc.AudioFrame(samples.tobytes(), RATE, 1, len(samples)))
                case duplex.AgentText(text=piece, at=at):
                    words.append(piece)
                    print(f"{at:6.2f} {piece}", flush=True)
                case _:
                    pass
        if listening is not None:
            await listening
    return words


async def listen(track: rtc.Track, conversation: duplex.RemoteConversation) -> None:
    """Send what is said in the room, at the model's rate."""
    stream = rtc.AudioStream(track, sample_rate=RATE, num_channels=1)
    async for heard in stream:
        await conversation.send(np.frombuffer(heard.frame.data, np.int16))
    await stream.aclose()
    await conversation.finish()


async def main(url: str) -> None:
    """Join the room, and talk to whoever speaks in it, one after the other."""
    room, voice = rtc.Room(), rtc.AudioSource(RATE, 1)
    tracks: asyncio.Queue[rtc.Track] = asyncio.Queue()

    @room.on("track_subscribed")
    def _(track: rtc.Track, *_: object) -> None:
        if track.kind == rtc.TrackKind.KIND_AUDIO:
            tracks.put_nowait(track)

    await room.connect(os.environ["LIVEKIT_URL"], os.environ["LIVEKIT_TOKEN"])
    await room.local_participant.publish_track(rtc.LocalAudioTrack.create_audio_track("agent", voice))
    while True:
        await converse(url, await tracks.get(), voice)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
