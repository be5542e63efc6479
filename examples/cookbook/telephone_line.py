"""A telephone line: Twilio asks here what to do with a call, and streams its sound to the model.

TELEPHONE_HOST=talk.example.org DUPLEX_TWILIO_AUTH_TOKEN=... uvicorn --app-dir examples/cookbook telephone_line:app

Give a number the webhook https://talk.example.org/answer. A call is answered with TwiML that connects it to /twilio;
when every place is taken, or the model ends the call, Twilio goes on to what stands after </Connect>. Without the
account's auth token calls need no signature: whoever finds the address may call.
"""

import os
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qsl
from xml.sax.saxutils import quoteattr

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

import duplex
from duplex.server import Settings, application

HOST = os.environ.get("TELEPHONE_HOST", "127.0.0.1:8000")
"""Of this server, as Twilio has it."""
TWIML = """<?xml version="1.0" encoding="UTF-8"?>
<Response>
  <Connect>
    <Stream url={stream}>
      <Parameter name="seed" value={seed} />
    </Stream>
  </Connect>
  <Say>Sorry, everyone is talking. Please call again in a minute.</Say>
</Response>
"""
MODEL = duplex.load("tiny", sessions=4)
LINE = application(
    MODEL,
    # A caller cannot see a queue, so there is none; a call ends after ten minutes. Nobody but Twilio is let in.
    Settings(
        wires=("twilio",),
        twilio_auth_token=os.environ.get("DUPLEX_TWILIO_AUTH_TOKEN", ""),
        queue=0,
        session_limit=600,
        hosts=(HOST.partition(":")[0],),
        record=os.environ.get("TELEPHONE_RECORDINGS"),
    ),
)


async def answer(request: Request) -> Response:
    """Tell Twilio what to do with a call."""
    call = dict(parse_qsl((await request.body()).decode()))
    print(f"a call from {call.get('From', 'somebody')}", flush=True)
    seed = str(zlib.crc32(call.get("CallSid", "").encode()))  # the call can be replayed by it
    scheme = "ws" if HOST.startswith("127.") else "wss"
    twiml = TWIML.format(stream=quoteattr(f"{scheme}://{HOST}/twilio"), seed=quoteattr(seed))
    return Response(twiml, media_type="text/xml")


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    """Close the model with the application."""
    with MODEL:
        yield
        await LINE.state.service.drain(0)


app = Starlette(routes=[Route("/answer", answer, methods=["POST"]), Mount("/", LINE)], lifespan=lifespan)
