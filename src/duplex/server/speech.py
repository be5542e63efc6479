"""Texts that a model of synthesis says over HTTP, as OpenAI's clients ask for it: ``POST /v1/audio/speech``.

1. A text takes a place of its model, and waits for one, as a call does: one admission for all.
2. Nothing is answered before the first sound: whatever goes wrong before that has a status of its own.
3. What is said travels as soon as it is there. A client who leaves, or does not read, ends it; so does the time limit.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio
import attrs
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from duplex.conversation.speaker import Speaker
from duplex.errors import AudioFileError, CapacityError, UsageError
from duplex.events import AgentAudio, AgentText, EndReason, Event, SessionEnded, SessionStarted
from duplex.server.account import CallAccount
from duplex.server.admission import Refusal
from duplex.server.close_reasons import OF_REFUSAL, CloseReason, reason_of
from duplex.server.origins import origin_allowed
from duplex.server.served_models import ServedModel
from duplex.server.service import Service
from duplex.server.speech_request import SpeechRequest
from duplex.server.speech_sound import Bare, InEvents
from duplex.server.tickets import service_of, token_wanted
from duplex.server.wires.json_messages import BadMessage

__all__ = ["openai_error", "speech"]

log: logging.Logger = logging.getLogger(__name__)
LARGEST_BODY = 1 << 16
"""Bytes of a request."""
SEND_SECONDS = 30.0
"""That a client may take to read what has been sent, before it counts as gone."""
RETRY_SECONDS = 5
_STATUSES = {
    CloseReason.TOO_MANY: 429,
    CloseReason.BAD_REQUEST: 400,
    CloseReason.TOO_LONG: 400,  # which clients do not try again by themselves
    CloseReason.STALLED: 503,
}
_TOO_LONG = "to say this text takes longer than the server allows; send it in parts"
_UNAVAILABLE = (*OF_REFUSAL.values(), CloseReason.STALLED)


async def speech(request: Request) -> Response:
    """Answer with a text as speech."""
    service = service_of(request)
    owner = service.keys.tokens.owner(request.headers.get("authorization"))
    if owner is None:  # a cluster redirects with a ticket, and clients show no other machine their token
        owner = service.keys.tickets.redeem(request.query_params.get("ticket", ""), anyio.current_time())
    if owner is None:
        return token_wanted()
    origin, host = request.headers.get("origin"), request.headers.get("host")
    if not origin_allowed(origin, host, service.settings.origins):
        return openai_error(403, f"pages of {origin} may not call {host}; allow it with --origin")
    try:
        wanted = SpeechRequest.read(await _body(request))
        served = service.models.find_speaking(wanted.model)
        voice = await served.speaking_voice(wanted.voice)
        speaker = Speaker(served.model, voice=voice, options=wanted.options)
    except BadMessage as error:
        return openai_error(400, str(error), code=error.code, param=error.param)
    except (UsageError, AudioFileError) as error:
        return openai_error(400, str(error))
    client = "" if request.client is None else request.client.host
    return _Spoken(service, served, speaker, _Wish(wanted, owner, client, "" if voice is None else str(voice)))


async def _body(request: Request) -> bytes:
    body = b""
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > LARGEST_BODY:
                raise BadMessage("invalid_value", f"the request has more than {LARGEST_BODY} bytes; send less")
    except ClientDisconnect:
        raise BadMessage("invalid_json", "the request was broken off") from None
    return body


@attrs.frozen
class _Wish:
    """Who wants what: a request, whose token was shown from where, and the file of the voice."""

    request: SpeechRequest
    owner: str
    address: str
    voice_file: str


class _Spoken(Response):
    """The answer, which is said as it is sent: a call, for the server that counts and ends them."""

    def __init__(self, service: Service, served: ServedModel, speaker: Speaker, wish: _Wish) -> None:
        super().__init__()
        self._service, self._served, self._speaker, self._wish = service, served, speaker, wish
        self._account = CallAccount(service.metrics, wish.owner)
        self._scope = anyio.CancelScope()
        self._ending: CloseReason | None = None
        self._begun = False
        wanted, model = wish.request, served.model
        self._sound: Bare | InEvents = (
            InEvents(wanted.sound, model.spec.sample_rate, len(model.tokenizer.encode(wanted.text)))
            if wanted.events
            else Bare(wanted.sound, model.spec.sample_rate)
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Say it."""
        hold: Callable[[], None] | None = scope.get("state", {}).get("hold")
        if hold is not None:  # of the server's own connections, which end otherwise if an answer takes long
            hold()
        caller = await self._served.admission.enter(self._wish.address)
        if isinstance(caller, Refusal):
            await self._refuse(caller, send)
            return
        try:
            self._service.enter(self)  # which starts threads, if there can be any
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._service.watch_loop)
                    tasks.start_soon(self._notice_leaving, receive)
                    await self._answer(caller, send)
                    tasks.cancel_scope.cancel()
            if self._ending is CloseReason.DRAINING and not self._begun:
                await self._send_error(self._ending, self._ending.text, send)
        finally:
            self._account.end(self._ending or CloseReason.FAILED)
            self._served.admission.leave(caller)
            self._service.leave(self)

    async def move(self, url: str) -> None:
        """Stay: a text is short, and is said to its end here."""

    def shut_down(self) -> None:
        """End because the server stops."""
        self._end(CloseReason.DRAINING)

    def _end(self, reason: CloseReason) -> None:
        if self._ending is None:
            self._ending = reason
            self._scope.cancel()

    async def _notice_leaving(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._end(CloseReason.HUNG_UP)

    async def _answer(self, caller: int, send: Send) -> None:
        try:
            refusal = await self._wait(caller)
            if refusal is not None:
                await self._refuse(refusal, send)
                return
            with anyio.move_on_after(self._service.settings.session_limit or None) as limit:
                async with self._speaker as speaker:
                    async for event in speaker.say(self._wish.request.text):
                        await self._tell(event, send)
            if limit.cancelled_caught:
                await self._break_off(CloseReason.TOO_LONG, _TOO_LONG, send)
        except CapacityError:  # somebody beside this server uses the model
            await self._refuse(Refusal.WAITED, send)
        except TimeoutError:
            self._end(CloseReason.TOO_SLOW)
        except Exception as error:  # noqa: BLE001 -- the client is told, and whoever runs the server
            await self._fail(error, send)

    async def _wait(self, caller: int) -> Refusal | None:
        """Wait for a place; return why there is none."""
        admission = self._served.admission
        with anyio.move_on_after(self._service.settings.queue_timeout):
            while admission.position(caller):
                if admission.draining:
                    return Refusal.DRAINING
                await self._service.changed.wait()
            return None
        return Refusal.WAITED

    async def _tell(self, event: Event, send: Send) -> None:
        match event:
            case SessionStarted(session_id=session_id, model=model):
                self._account.begin(session_id, model, None)
            case AgentAudio() | AgentText():
                await self._send(await self._coded(event), send, more=True)
            case SessionEnded(reason=EndReason.FINISHED):
                self._ending = CloseReason.FINISHED  # from here on a client who leaves has all of it
                await self._send(await self._coded(event), send, more=False)
            case _:  # an end whose error comes next
                pass

    async def _coded(self, event: Event) -> bytes:
        """Return what travels of an event: its sound is coded beside the event loop, which others' calls need."""
        return await self._service.coders.run(self._sound.told, event)

    async def _send(self, data: bytes, send: Send, *, more: bool) -> None:
        """Send, with the answer's head before the first of it.

        :raises TimeoutError: if nobody reads it
        """
        with anyio.fail_after(SEND_SECONDS):
            if not self._begun:
                headers = [(b"content-type", self._sound.media_type.encode()), (b"cache-control", b"no-store")]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                self._begun = True
            if data or not more:
                await send({"type": "http.response.body", "body": data, "more_body": more})

    async def _refuse(self, refusal: Refusal, send: Send) -> None:
        self._account.refuse(refusal)
        self._ending = OF_REFUSAL[refusal]
        await self._send_error(self._ending, self._ending.text, send)

    async def _fail(self, error: Exception, send: Send) -> None:
        reason, text = reason_of(error)
        if self._wish.voice_file:  # where a server has its files is not for a caller to know
            text = text.replace(self._wish.voice_file, f"the voice {self._wish.request.voice!r}")
        if reason is CloseReason.FAILED:
            log.error("a text could not be said", exc_info=error)
        await self._break_off(reason, text, send)

    async def _break_off(self, reason: CloseReason, text: str, send: Send) -> None:
        """End before the end of the text, and tell the client, if there are still words for it."""
        self._ending = reason
        if not self._begun:
            await self._send_error(reason, text, send)
        elif self._wish.request.events:
            with suppress(TimeoutError):  # who does not read is not told
                await self._send(self._sound.failed(text), send, more=False)

    async def _send_error(self, reason: CloseReason, text: str, send: Send) -> None:
        status = _STATUSES.get(reason, 503 if reason in _UNAVAILABLE else 500)
        answer = openai_error(status, text)
        with anyio.move_on_after(SEND_SECONDS):  # an answer before, on the same connection, may not have been read
            await send({"type": "http.response.start", "status": status, "headers": answer.raw_headers})
            await send({"type": "http.response.body", "body": answer.body})


def openai_error(status: int, text: str, *, code: str | None = None, param: str | None = None) -> Response:
    """Return an error as OpenAI's clients read it."""
    kind = "server_error" if status >= 500 else "invalid_request_error"  # noqa: PLR2004 -- of HTTP
    error: dict[str, Any] = {"message": text, "type": kind, "param": param, "code": code}
    again = {"Retry-After": str(RETRY_SECONDS)} if status in (429, 503) else None
    return JSONResponse({"error": error}, status, again)
