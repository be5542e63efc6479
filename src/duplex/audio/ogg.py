"""Ogg pages (RFC 3533): packets out of bytes that arrive cut anywhere, and bytes out of packets. No I/O.

1. A page begins with ``OggS`` and is believed if its checksum is right; anything else is skipped byte by byte up to the
   next ``OggS``.
2. A packet is given out once it is whole. One of which a page is missing is dropped.
3. Bytes that look like pages and are none, many in a row, are an error: to look at each of them is costly.
4. The stream that is read is the one that began last: a page that begins a stream starts afresh, pages of other
   streams are ignored.
"""

import math
import struct
import zlib
from collections.abc import Iterator, Sequence

import attrs

from duplex.errors import AudioError

__all__ = ["MAX_PACKET_BYTES", "OggReader", "OggWriter", "Packet"]

MAX_PACKET_BYTES = 65_025
"""Bytes; what would be longer is dropped."""
MAX_DAMAGED_PACKETS = 100
"""Pages in a row whose checksum is wrong."""

_CAPTURE = b"OggS"
_HEADER = struct.Struct("<4sBBqIIIB")
"""Capture pattern, version, flags, granule position, serial number, page number, checksum, number of segments."""
_CHECKSUM = slice(22, 26)
_CONTINUED, _BEGINS, _ENDS = 1, 2, 4
_SEGMENT = 255
_NO_PACKET_ENDS = -1
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@attrs.frozen(kw_only=True)
class Packet:
    """A whole packet. ``begins`` and ``ends`` are set for the first and the last one of a stream."""

    data: bytes
    begins: bool
    ends: bool


def checksum(page: bytes) -> int:
    """Return the checksum of a page whose own checksum field is zero: CRC 32, polynomial 04C11DB7, unreflected."""
    # zlib's CRC has the same polynomial with bits in the other order, in the data and in the result.
    reflected = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(reflected.to_bytes(4, "little").translate(_REVERSED), "big")


class OggReader:
    """Reads one stream's packets, at most ``max_packets`` at once: 64 KiB can hold 60,000 of nothing.

    Memory stays below a page and :data:`MAX_PACKET_BYTES`.
    """

    def __init__(self, max_packets: float = math.inf) -> None:
        self._max_packets = max_packets
        self._buffer = bytearray()
        self._serial: int | None = None
        self._next_page = 0
        self._partial: bytearray | None = None
        """What there is of a packet that goes on in the next page; ``None`` between packets and after a gap."""
        self._begins = False
        self._damaged = 0

    def feed(self, data: bytes) -> list[Packet]:
        """Take bytes of any length; return the packets that they complete.

        :raises AudioError: if too many pages in a row are damaged, or too many packets come
        """
        self._buffer += data
        found: list[Packet] = []
        for page in self._pages():
            found += self._packets(page)
            if len(found) > self._max_packets:
                raise AudioError(f"more than {self._max_packets:g} packets at once; send them at the pace of a clock")
        return found

    def _pages(self) -> Iterator["_Page"]:
        """Yield the whole pages in the buffer, and take them out of it."""
        while True:
            start = self._buffer.find(_CAPTURE)
            if start < 0:
                # The last bytes may be the beginning of the next page's capture pattern.
                del self._buffer[: max(0, len(self._buffer) - len(_CAPTURE) + 1)]
                return
            del self._buffer[:start]
            length = _length(self._buffer)
            if length is None or len(self._buffer) < length:
                return
            page = _parsed(bytes(self._buffer[:length]))
            del self._buffer[: 1 if page is None else length]
            if page is not None:
                self._damaged = 0
                yield page
            else:
                self._count_damaged()

    def _count_damaged(self) -> None:
        self._damaged += 1
        if self._damaged > MAX_DAMAGED_PACKETS:
            raise AudioError(
                f"more than {MAX_DAMAGED_PACKETS} Ogg pages in a row are damaged; send what the encoder wrote"
            )

    def _packets(self, page: "_Page") -> Iterator[Packet]:
        if page.flags & _BEGINS:
            self._serial, self._next_page, self._partial, self._begins = page.serial, page.number, None, True
        if page.serial != self._serial:
            return
        if page.number != self._next_page:
            self._partial = None
        self._next_page = page.number + 1 & 0xFFFFFFFF
        continued = bool(page.flags & _CONTINUED)
        if not continued:
            self._partial = bytearray()
        for index, (data, whole) in enumerate(page.pieces):
            if self._partial is not None:
                self._partial += data
            if not whole:
                break
            if self._partial is not None and len(self._partial) <= MAX_PACKET_BYTES:
                last = index == len(page.pieces) - 1
                yield Packet(data=bytes(self._partial), begins=self._begins, ends=last and bool(page.flags & _ENDS))
                self._begins = False
            self._partial = bytearray()
        if self._partial is not None and len(self._partial) > MAX_PACKET_BYTES:
            self._partial = None


class OggWriter:
    """Writes one stream, a page for each call, so that nothing waits for a page to fill."""

    def __init__(self, serial: int) -> None:
        self._serial = serial
        self._number = 0

    def page(self, packets: Sequence[bytes], granule: int, *, ends: bool = False) -> bytes:
        """Return a page with whole packets, of which the last one ends at a granule position.

        :raises AudioError: if they do not fit into one page
        """
        lacing = b"".join(
            bytes([_SEGMENT]) * (len(packet) // _SEGMENT) + bytes([len(packet) % _SEGMENT]) for packet in packets
        )
        if len(lacing) > _SEGMENT:
            raise AudioError(f"{sum(map(len, packets))} bytes do not fit into one Ogg page; give fewer packets")
        flags = (_BEGINS if self._number == 0 else 0) | (_ENDS if ends else 0)
        header = _HEADER.pack(_CAPTURE, 0, flags, granule, self._serial, self._number, 0, len(lacing))
        page = bytearray(header + lacing + b"".join(packets))
        page[_CHECKSUM] = checksum(bytes(page)).to_bytes(4, "little")
        self._number = self._number + 1 & 0xFFFFFFFF
        return bytes(page)


@attrs.frozen(kw_only=True)
class _Page:
    flags: int
    serial: int
    number: int
    pieces: list[tuple[bytes, bool]]
    """Of packets, each with whether it ends here."""


def _length(buffer: bytearray) -> int | None:
    """Return how long the page at the buffer's start is, ``None`` if that cannot be told yet."""
    if len(buffer) < _HEADER.size or len(buffer) < _HEADER.size + buffer[_HEADER.size - 1]:
        return None
    segments = buffer[_HEADER.size - 1]
    return _HEADER.size + segments + sum(buffer[_HEADER.size : _HEADER.size + segments])


def _parsed(page: bytes) -> _Page | None:
    """Return what a page holds, ``None`` if it is none."""
    _, version, flags, _, serial, number, wanted, segments = _HEADER.unpack_from(page)
    blank = page[: _CHECKSUM.start] + bytes(4) + page[_CHECKSUM.stop :]
    if version != 0 or checksum(blank) != wanted:
        return None
    pieces: list[tuple[bytes, bool]] = []
    at = start = _HEADER.size + segments
    lacing = page[_HEADER.size : at]
    for index, size in enumerate(lacing):
        at += size
        if size < _SEGMENT or index == segments - 1:
            pieces.append((page[start:at], size < _SEGMENT))
            start = at
    return _Page(flags=flags, serial=serial, number=number, pieces=pieces)
