"""A store of conversations that several machines share: Redis, or what speaks its protocol.

1. Under ``duplex:{KEY}:owner`` lies the generation that claimed a key, under ``duplex:{KEY}:head`` which parts its data
   has. Both are looked at and changed in one script, which Redis runs with nothing in between.
2. Data lies in parts beside it, under a name of its own for each ``put``: Redis takes no string of more than 512 MB.
   They are written first: until the head names them, nobody finds them. Parts that nobody finds end by themselves.
3. Redis itself bounds what is kept, by ``maxmemory`` with the policy ``noeviction``: what is full refuses. Claiming
   works then too, since a script that begins by deleting is let through.
4. Nothing is tried again here. A claim of which only the answer was lost has happened: once more, it would be refused.
"""

import logging
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from duplex.errors import UsageError
from duplex.extras import require
from duplex.server.handover.stores import FencedError, StoreError
from duplex.server.logs import fields

__all__ = ["RedisStore"]

log: logging.Logger = logging.getLogger(__name__)

SCHEMES = ("redis", "rediss", "unix")
MOST_BYTES = 1 << 31
"""Of one conversation. That of a model of 7 billion parameters takes 1.6 GB with a full context."""
_PART_BYTES = 1 << 25

_PUT = """
local owner = redis.call('GET', KEYS[2])
if owner and tonumber(owner) >= tonumber(ARGV[1]) then return {0, ARGV[2]} end
local before = redis.call('GET', KEYS[1])
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return {1, before}
"""
_CLAIM = """
local owner = redis.call('GET', KEYS[2])
if owner and tonumber(owner) >= tonumber(ARGV[1]) then return {0, false} end
local head = redis.call('GET', KEYS[1])
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return {1, head}
"""


class RedisStore:
    """A :class:`StateStore <duplex.server.handover.stores.StateStore>` in a Redis, for asyncio.

    ``url`` is ``redis://[[user]:password@]host[:port][/number]``, ``rediss://`` for TLS, or ``unix://path``. Nothing is
    connected before the first call. What is kept is as secret as what was said: it is not encrypted here.

    :raises UsageError: if the address is none
    :raises MissingDependencyError: if the package ``redis`` is not installed
    """

    def __init__(self, url: str, *, most_bytes: int = MOST_BYTES) -> None:
        require("redis", "redis", purpose="keeping conversations in Redis")
        from redis.asyncio import Redis  # noqa: PLC0415 -- an extra
        from redis.asyncio.retry import Retry  # noqa: PLC0415
        from redis.backoff import NoBackoff  # noqa: PLC0415

        try:
            self._name = _without_secrets(url)
            self._redis: Any = Redis.from_url(url, retry=Retry(NoBackoff(), 0))  # pyright: ignore[reportUnknownMemberType]
        except ValueError as error:
            raise UsageError(f"the address of the store cannot be used ({error}); give redis://HOST:6379/0") from None
        self._put: Any = self._redis.register_script(_PUT)
        self._claim: Any = self._redis.register_script(_CLAIM)
        self._most_bytes = most_bytes
        self._looked_at = False

    async def put(self, key: str, generation: int, data: bytes, seconds: float) -> None:
        """Keep ``data`` under ``key`` for so many ``seconds``, in place of what an earlier ``put`` kept there.

        :raises FencedError: if the key has been claimed in this generation or a later one
        :raises StoreError: if it is too large, or there is no room, or Redis does not answer
        """
        if len(data) > self._most_bytes:
            raise StoreError(f"a conversation has {len(data)} bytes; {self._name} takes {self._most_bytes} at most")
        head, milliseconds = _head(data), _milliseconds(seconds)
        with self._told():
            await self._look_at_bounds()
            for name, start in zip(_parts(key, head), range(0, len(data), _PART_BYTES), strict=True):
                await self._redis.set(name, data[start : start + _PART_BYTES], px=milliseconds)
            done, needless = await self._put(keys=_names(key), args=[generation, head, milliseconds])
            await self._remove(key, needless)
        if not done:
            raise _fenced(generation)

    async def claim(self, key: str, generation: int, seconds: float) -> bytes | None:
        """Own ``key`` in ``generation``: take out what is kept under it, ``None`` if there is nothing.

        :raises FencedError: if the key has been claimed in this generation or a later one
        :raises StoreError: if Redis does not answer
        """
        with self._told():
            done, head = await self._claim(keys=_names(key), args=[generation, _milliseconds(seconds)])
            if not done:
                raise _fenced(generation)
            if head is None:
                return None
            pieces = [await self._redis.get(name) for name in _parts(key, head)]
            await self._remove(key, head)
        # Parts are written before their head, and so may end a moment before it.
        return None if any(piece is None for piece in pieces) else b"".join(pieces)

    async def discard(self, key: str) -> None:
        """Forget what is kept under a key; who claimed it stays remembered.

        :raises StoreError: if Redis does not answer
        """
        with self._told():
            await self._remove(key, await self._redis.getdel(_names(key)[0]))

    async def aclose(self) -> None:
        """Let go of connections; what is kept stays. Calling it twice is harmless."""
        with self._told():
            await self._redis.aclose()

    async def _remove(self, key: str, head: bytes | str | None) -> None:
        if head is not None and (names := _parts(key, head)):
            await self._redis.unlink(*names)

    async def _look_at_bounds(self) -> None:
        """Warn, once, of a Redis that takes whatever comes, or forgets what it was given."""
        if self._looked_at:
            return
        self._looked_at = True
        memory: dict[str, Any] = await self._redis.info("memory")
        bound, policy = memory.get("maxmemory", 0), memory.get("maxmemory_policy", "")
        if not bound or policy != "noeviction":
            log.warning(
                "the store of conversations has no bound, or forgets: set maxmemory, and maxmemory-policy noeviction",
                extra=fields(store=self._name, bytes=bound, policy=policy),
            )

    @contextmanager
    def _told(self) -> Generator[None]:
        """Say what failed in our words.

        :raises StoreError: if Redis refuses, or does not answer
        """
        from redis.exceptions import AuthenticationError, OutOfMemoryError, RedisError  # noqa: PLC0415 -- an extra

        try:
            yield
        except OutOfMemoryError:
            raise StoreError(f"{self._name} is full; raise its maxmemory, or keep less for less long") from None
        except AuthenticationError:
            raise StoreError(f"{self._name} does not take this password; see the address of the store") from None
        except (RedisError, OSError) as error:
            raise StoreError(f"{self._name} does not answer ({error or type(error).__name__})") from None


def _names(key: str) -> list[str]:
    return [f"duplex:{{{key}}}:head", f"duplex:{{{key}}}:owner"]  # the braces: all of a key is on one node of a cluster


def _head(data: bytes) -> str:
    return f"{secrets.token_hex(8)} {-(-len(data) // _PART_BYTES)}"


def _parts(key: str, head: bytes | str) -> list[str]:
    name, count = (head if isinstance(head, str) else head.decode()).split()
    return [f"duplex:{{{key}}}:{name}:{index}" for index in range(int(count))]


def _milliseconds(seconds: float) -> int:
    return max(1, round(1000 * seconds))


def _fenced(generation: int) -> FencedError:
    return FencedError(f"the conversation has been claimed in generation {generation} or later; leave it to its owner")


def _without_secrets(url: str) -> str:
    """Return an address as it may be told: without who logs in, and how.

    :raises ValueError: if it is none of a Redis
    """
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or not (parts.hostname or (parts.scheme == "unix" and parts.path)):
        raise ValueError("it begins with redis://, rediss:// or unix://")
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"
