"""Messages between two processes on one machine, over a stream of bytes: what is rare, or has no fixed size.

A message is its length (8 bytes) and a msgpack map. Arrays are dtype, shape and bytes; an error of :mod:`duplex.errors`
is its name and text. Both ends are of one version and one user, so nothing here guards against malice.

A message with large arrays, as a saved state is, is packed and unpacked in a thread, and goes in pieces, messages of
their own, between which others go: an event loop that serves every call has to copy no more than a piece at a time.
"""

import asyncio
import logging
import struct
from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module
from typing import Any, cast

import anyio
import anyio.to_thread
import numpy as np
from anyio.lowlevel import checkpoint

from duplex import errors
from duplex.errors import DuplexError, ModelError, ServerError

__all__ = ["Link", "Message", "as_error", "described", "receive", "send"]

log: logging.Logger = logging.getLogger(__name__)

Message = Mapping[str, Any]
Obey = Callable[[str, Message], "Message | Awaitable[Message | None] | None"]
"""Does what a message wants, in the order in which they come; what it returns is the answer, if one is due."""
_msgpack: Any = import_module("msgpack")  # it has no types
_LENGTH = struct.Struct("<Q")
_ARRAY = 1
PIECE = 1 << 17
"""Bytes of arrays above which a message goes in pieces, of so many bytes each."""
_GONE = "the other process of this server has ended"


def send(writer: asyncio.StreamWriter, message: Message) -> None:
    """Send a message."""
    packed = cast("bytes", _msgpack.packb(message, default=_pack))
    writer.write(_LENGTH.pack(len(packed)))
    writer.write(packed)


async def receive(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """Return the next message, ``None`` if there are no more."""
    try:
        length = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))[0]
        packed = await reader.readexactly(length)
    except (asyncio.IncompleteReadError, OSError):
        return None
    return _unpacked(packed)


def described(error: Exception) -> list[str]:
    """Return an error as a message has it."""
    return [type(error).__name__, str(error)]


def as_error(told: list[str]) -> DuplexError:
    """Return the error that :func:`described` was given, or one that says as much."""
    name, text = told
    kind: object = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, DuplexError):
        return kind(text)
    return ModelError(f"the model's process failed ({name}: {text}); start the conversation again")


class Link:
    """A process's connection with the other: messages that are answered, and such that are not."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, obey: Obey) -> None:
        self._reader = reader
        self._writer = writer
        self._obey = obey
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._questions = 0
        self._answering: set[asyncio.Task[None]] = set()
        self._telling: set[asyncio.Task[None]] = set()
        """What is large and on its way."""
        self._one_large = anyio.Lock()
        self._pieces: list[bytes] = []
        """What has come of a large message."""
        self._over = False

    async def run(self) -> None:
        """Take messages until the other process is gone."""
        try:
            while (message := await receive(self._reader)) is not None:
                whole = await self._joined(message)
                if whole is not None:
                    self._take(whole)
        finally:
            self._over = True
            for future in self._asked.values():
                if not future.done():
                    future.set_exception(ServerError(_GONE))
            for task in self._answering | self._telling:
                task.cancel()
            self._writer.close()

    def close(self) -> None:
        """End the connection; the other process sees that."""
        self._over = True
        self._writer.close()

    def tell(self, name: str, **told: Any) -> None:
        """Send a message that is not answered; if nobody is there, nothing happens."""
        message = {"name": name, **told}
        if self._over:
            return
        if _bytes_of(message) > PIECE:
            task = asyncio.ensure_future(self._tell_in_pieces(message))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)
        else:
            send(self._writer, message)

    async def ask(self, name: str, **told: Any) -> dict[str, Any]:
        """Send a message, and return the answer.

        :raises DuplexError: what the other process answers with; :class:`ServerError` if it is gone
        """
        if self._over:
            raise ServerError(_GONE)
        self._questions += 1
        number = self._questions
        future = self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            self.tell(name, question=number, **told)
            answer = await future
        finally:
            del self._asked[number]
        if "error" in answer:
            raise as_error(answer["error"])
        return answer

    async def ask_to_the_end(self, name: str, **told: Any) -> dict[str, Any]:
        """Ask as :meth:`ask` does, for something that must be given back: an answer comes, whoever is cancelled."""
        answer: dict[str, Any] = {}
        with anyio.CancelScope(shield=True):
            answer |= await self.ask(name, **told)
        return answer

    async def _tell_in_pieces(self, message: Message) -> None:
        """Send a large message, one at a time; an error ends the connection, as somebody waits for the message."""
        try:
            async with self._one_large:
                packed = await anyio.to_thread.run_sync(_packed_large, message)
                for start in range(0, len(packed), PIECE):
                    piece = packed[start : start + PIECE]
                    send(self._writer, {"piece": piece, "last": start + PIECE >= len(packed)})
                    await self._writer.drain()
                    await checkpoint()  # where there was room, nothing has waited
        except OSError:  # it is gone, which `run` tells
            pass
        except Exception:
            log.exception("a message to another process of this server cannot be sent")
            self.close()

    async def _joined(self, message: dict[str, Any]) -> dict[str, Any] | None:
        """Return the whole message of which this was the last piece, ``None`` if others follow."""
        if "piece" not in message:
            return message
        self._pieces.append(message["piece"])
        if not message["last"]:
            return None
        pieces, self._pieces = self._pieces, []
        return await anyio.to_thread.run_sync(lambda: _unpacked(b"".join(pieces)))

    def _take(self, message: dict[str, Any]) -> None:
        if "answers" in message:
            future = self._asked.get(message["answers"])
            if future is not None and not future.done():
                future.set_result(message)
            return
        question: int | None = message.get("question")
        try:
            answer = self._obey(message["name"], message)
            if not isinstance(answer, Awaitable):
                self._answer(question, answer)
                return
        except Exception as error:  # noqa: BLE001 -- it is one question's: all other calls go on over this link
            self._answer_error(question, error)
            return
        task = asyncio.ensure_future(self._answer_later(question, answer))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer_later(self, question: int | None, answer: Awaitable[Message | None]) -> None:
        try:
            self._answer(question, await answer)
        except Exception as error:  # noqa: BLE001 -- whoever asked waits for an answer, whatever has gone wrong
            self._answer_error(question, error)

    def _answer_error(self, question: int | None, error: Exception) -> None:
        """Answer with an error; one that nobody foresaw, or nobody is told of, is for whoever runs the server."""
        if question is None or not isinstance(error, DuplexError):
            log.error("what the other process of this server wants has failed", exc_info=error)
        self._answer(question, {"error": described(error)})

    def _answer(self, question: int | None, answer: Message | None) -> None:
        if question is not None and not self._over:
            send(self._writer, {**(answer or {}), "answers": question})


def _bytes_of(value: object) -> int:
    """Return the bytes of the arrays in a message, or in a part of one."""
    if isinstance(value, np.ndarray):
        return cast("np.ndarray[Any, Any]", value).nbytes
    if isinstance(value, Mapping):
        return sum(map(_bytes_of, cast("Mapping[object, object]", value).values()))
    return 0


def _packed_large(message: Message) -> memoryview:
    packer = _msgpack.Packer(default=_pack, autoreset=False)
    packer.pack(message)
    return memoryview(packer.getbuffer())  # a copy would keep Python's lock for as long as it takes


def _unpacked(packed: bytes) -> dict[str, Any]:
    return cast("dict[str, Any]", _msgpack.unpackb(packed, ext_hook=_unpack, strict_map_key=False))


def _pack(value: object) -> object:
    if isinstance(value, np.ndarray):
        array = cast("np.ndarray[Any, Any]", value)
        packed = _msgpack.packb([array.dtype.str, list(array.shape), array.tobytes()])
        return _msgpack.ExtType(_ARRAY, cast("bytes", packed))
    raise TypeError(f"{type(value).__name__} is nothing that a message can have")


def _unpack(code: int, data: bytes) -> object:
    if code != _ARRAY:
        raise ValueError(f"there is no extension {code} in messages")
    dtype, shape, body = cast("tuple[str, list[int], bytes]", _msgpack.unpackb(data))
    return np.frombuffer(bytearray(body), np.dtype(dtype)).reshape(shape)
