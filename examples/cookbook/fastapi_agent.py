"""A voice agent in FastAPI: a page to talk to it, a websocket for programs, and what it has said, as JSON.

uvicorn --app-dir examples/cookbook fastapi_agent:app

http://127.0.0.1:8000/talk/ is the page. /voice takes 16-bit samples at 24 kHz as binary messages, and an empty one at
the end; it sends the agent's voice in the same way, and everything else that happens as JSON. /said tells what was
said.
"""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import numpy as np
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

import duplex
from duplex.server import Settings, application

SAID: deque[str] = deque(maxlen=100)
"""What the agent said in the last calls."""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Load the model once, for as long as the application lives."""
    with await duplex.load_async("tiny", sessions=4) as model:
        app.state.model = model
        page = application(model, Settings())
        app.mount("/talk", page)
        yield
        await page.state.service.drain(0)


app = FastAPI(title="A voice agent", lifespan=lifespan)


@app.get("/said")
def said() -> list[str]:
    """Tell what the agent said, a line for each call."""
    return list(SAID)


@app.websocket("/voice")
async def voice(caller: WebSocket) -> None:
    """Hold a conversation."""
    await caller.accept()
    words: list[str] = []
    try:
        async with duplex.Conversation(app.state.model) as conversation, anyio.create_task_group() as tasks:
            tasks.start_soon(listen, caller, conversation)
            async for event in conversation:
                if isinstance(event, duplex.AgentAudio):
                    await caller.send_bytes((event.pcm.clip(-1, 1) * 32767).astype(np.int16).tobytes())
                    continue
                if isinstance(event, duplex.AgentText):
                    words.append(event.text)
                await caller.send_json(event.as_dict())
        await caller.close()
    except* duplex.CapacityError:
        await caller.close(1013, "every place is taken; call again later")
    except* WebSocketDisconnect:
        pass  # the caller hung up
    finally:
        SAID.append("".join(words).strip())


async def listen(caller: WebSocket, conversation: duplex.Conversation) -> None:
    """Hand on what the caller says."""
    while pcm := await caller.receive_bytes():
        await conversation.send(pcm)
    await conversation.finish()
