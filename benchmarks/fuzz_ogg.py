"""Fuzz the framing with coverage as the guide: Ogg pages, Opus in them, and the messages around them.

    pip install atheris
    python benchmarks/fuzz_ogg.py [-max_total_time=600] [CORPUS]

Arguments are libFuzzer's. An input is a message cut in two at a place of its own; half of the pages get a checksum that
fits, which no fuzzer would find. Nothing but an `AudioError` may come out, and sound must be finite.
"""

import sys

import atheris

with atheris.instrument_imports(include=["duplex.audio.ogg", "duplex.audio.opus", "duplex.transports.wire"]):
    import numpy as np

    from duplex.audio.ogg import MAX_PACKET_BYTES, OggReader, checksum
    from duplex.audio.opus import OpusReader, OpusWriter
    from duplex.errors import AudioError
    from duplex.transports import wire

RATE = 24000
HEADER = OpusWriter(RATE).header()


def try_one(data: bytes) -> None:
    """Read one input."""
    provider = atheris.FuzzedDataProvider(data)
    fits, begun, cut = provider.ConsumeBool(), provider.ConsumeBool(), provider.ConsumeIntInRange(0, 1 << 16)
    message = bytearray(provider.ConsumeBytes(1 << 16))
    if fits and len(message) > 27:
        message[:5] = b"OggS\0"
        message[22:26] = bytes(4)
        message[22:26] = checksum(bytes(message)).to_bytes(4, "little")
    wire.parse(bytes(message))
    try:
        compare(bytes(message), cut)
        listen(bytes(message), begun=begun)
    except AudioError:
        return


def compare(message: bytes, cut: int) -> None:
    """Read a message whole and in two pieces."""
    whole, pieces = OggReader(), OggReader()
    once = [packet.data for packet in whole.feed(message)]
    twice = [packet.data for part in (message[:cut], message[cut:]) for packet in pieces.feed(part)]
    if once != twice or any(len(packet) > MAX_PACKET_BYTES for packet in once):
        raise RuntimeError("the cut changed the packets")


def listen(message: bytes, *, begun: bool) -> None:
    """Decode a message, perhaps after headers."""
    reader = OpusReader(RATE)
    if begun:
        reader.feed(HEADER)
    if not np.isfinite(reader.feed(message)).all():
        raise RuntimeError("sound that is not finite")


if __name__ == "__main__":
    atheris.Setup(sys.argv, try_one)
    atheris.Fuzz()
