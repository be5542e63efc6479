"""Ogg pages, Opus in them, and the messages of the wire: cut anywhere, damaged, and of other kinds."""

import struct
import zlib

import av
import numpy as np
import pytest

from duplex.audio import ogg
from duplex.audio.ogg import MAX_DAMAGED_PACKETS, MAX_PACKET_BYTES, OggReader, OggWriter, checksum
from duplex.audio.opus import OpusReader, OpusWriter
from duplex.errors import AudioError
from duplex.transports import wire

RATE = 24000


def stream(packets, serial=7, per_page=1):
    writer = OggWriter(serial)
    groups = [packets[start : start + per_page] for start in range(0, len(packets), per_page)]
    return b"".join(writer.page(group, 0, ends=group is groups[-1]) for group in groups)


def data_of(packets):
    return [packet.data for packet in packets]


def tone(seconds=1.0, hertz=440.0):
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.3 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def encoded(pcm, frame=1920):
    writer = OpusWriter(RATE)
    pieces = [pcm[start : start + frame] for start in range(0, len(pcm), frame)]
    return writer.header() + b"".join(writer.encode(piece, ends=piece is pieces[-1]) for piece in pieces)


# Pages


def test_the_checksum_is_that_of_the_standard():
    def slow(data):
        crc = 0
        for byte in data:
            crc ^= byte << 24
            for _ in range(8):
                crc = (crc << 1 ^ (0x04C11DB7 if crc & 1 << 31 else 0)) & 0xFFFFFFFF
        return crc

    rng = np.random.default_rng(0)
    for length in (0, 1, 27, 500):
        data = rng.bytes(length)
        assert checksum(data) == slow(data)
    assert checksum(b"OggS") != zlib.crc32(b"OggS")


@pytest.mark.parametrize("step", [1, 3, 26, 28, 254, 255, 256, 10_000])
def test_packets_come_back_however_the_bytes_are_cut(step):
    packets = [bytes([n % 256]) * n for n in (1, 0, 254, 255, 256, 510, 511, 3000, 17)]
    data = stream(packets, per_page=2)
    reader = OggReader()
    found = [packet for start in range(0, len(data), step) for packet in reader.feed(data[start : start + step])]
    assert data_of(found) == packets
    assert [packet.begins for packet in found] == [True] + [False] * 8
    assert [packet.ends for packet in found] == [False] * 8 + [True]


def test_a_packet_over_several_pages():
    whole = np.random.default_rng(1).bytes(60_000)
    pieces = [whole[start : start + 255 * 100] for start in range(0, len(whole), 255 * 100)]
    pages = []
    for number, piece in enumerate(pieces):
        last = number == len(pieces) - 1
        lacing = bytes([255]) * (len(piece) // 255) + (bytes([len(piece) % 255]) if last else b"")
        head = struct.pack("<4sBBqIIIB", b"OggS", 0, 2 if number == 0 else 1, 0, 7, number, 0, len(lacing))
        page = bytearray(head + lacing + piece)
        page[22:26] = checksum(bytes(page)).to_bytes(4, "little")
        pages.append(bytes(page))
    assert data_of(OggReader().feed(b"".join(pages))) == [whole]
    assert data_of(OggReader().feed(pages[0] + pages[2])) == [], "of one with a page missing nothing is made up"


def test_what_is_no_page_is_skipped():
    first, second = stream([b"one"]), stream([b"two"], serial=9)
    noise = b"OggOggS\x01 hello OggS" + bytes(200)
    assert data_of(OggReader().feed(noise + first + noise + second)) == [b"one", b"two"]


def test_a_damaged_page_is_left_out():
    pages = [OggWriter(7).page([b"one"], 0)]
    writer = OggWriter(7)
    pages = [writer.page([text], 0) for text in (b"one", b"two", b"three")]
    damaged = bytearray(pages[1])
    damaged[-1] ^= 1
    assert data_of(OggReader().feed(pages[0] + bytes(damaged) + pages[2])) == [b"one", b"three"]


def test_many_damaged_pages_are_an_error():
    page = bytearray(stream([b"one"]))
    page[22] ^= 1
    with pytest.raises(AudioError, match="in a row are damaged"):
        OggReader().feed(bytes(page) * (MAX_DAMAGED_PACKETS + 1))


def test_the_stream_that_began_last_is_read():
    ours = OggWriter(1)
    begin, middle = ours.page([b"a"], 0), ours.page([b"b"], 0)
    assert data_of(OggReader().feed(begin + stream([b"x"], serial=2) + middle)) == [b"a", b"x"]
    assert data_of(OggReader().feed(middle)) == [], "of a stream without its beginning nothing is known"


def test_memory_stays_bounded():
    reader = OggReader()
    writer = OggWriter(3)
    reader.feed(writer.page([b""], 0))
    lacing = bytes([255]) * 255
    for number in range(1, 20):  # one packet that never ends
        head = struct.pack("<4sBBqIIIB", b"OggS", 0, 0 if number == 1 else 1, -1, 3, number, 0, 255)
        page = bytearray(head + lacing + bytes(255 * 255))
        page[22:26] = checksum(bytes(page)).to_bytes(4, "little")
        assert reader.feed(bytes(page)) == []
    held = len(reader._buffer) + len(reader._partial or b"")
    assert held <= 2 * MAX_PACKET_BYTES
    reader.feed(bytes(10_000_000))
    assert len(reader._buffer) < 10


def test_what_does_not_fit_into_a_page():
    with pytest.raises(AudioError, match="do not fit into one Ogg page"):
        OggWriter(1).page([bytes(255 * 255)], 0)
    assert ogg.OggReader().feed(OggWriter(1).page([bytes(255 * 255 - 1)], 0))[0].data == bytes(255 * 255 - 1)


# Opus


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_sound_comes_back(step):
    pcm = tone()
    data = encoded(pcm)
    reader = OpusReader(RATE)
    heard = np.concatenate([reader.feed(data[start : start + step]) for start in range(0, len(data), step)])
    assert heard.dtype == np.float32
    assert -(-len(pcm) // 1920) * 1920 == len(heard) or len(heard) == len(pcm)
    spectrum = np.abs(np.fft.rfft(heard[4800:9600] * np.hanning(4800)))
    assert np.argmax(spectrum) * RATE / 4800 == pytest.approx(440, abs=5)
    assert np.abs(heard[4800:]).max() == pytest.approx(0.3, rel=0.2)


def test_others_read_what_we_write(tmp_path):
    path = tmp_path / "tone.opus"
    path.write_bytes(encoded(tone(2.0)))
    with av.open(str(path)) as container:
        codec = container.streams.audio[0].codec_context
        samples = sum(frame.samples for frame in container.decode(audio=0))
        assert (codec.name, codec.channels) == ("opus", 1)
    assert samples == pytest.approx(2 * 48000, abs=1000)


@pytest.mark.parametrize("layout", ["stereo", "mono"])
def test_we_read_what_others_write(tmp_path, layout):
    path = tmp_path / "tone.opus"
    with av.open(str(path), "w") as container:
        output = container.add_stream("libopus", rate=48000, layout=layout)
        output.options = {"application": "voip"}
        channels = 2 if layout == "stereo" else 1
        sound = np.tile(0.3 * np.sin(2 * np.pi * 300 * np.arange(48000) / 48000), (channels, 1)).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(sound, format="fltp", layout=layout)
        frame.rate = 48000
        resampler = av.AudioResampler(format="flt", layout=layout, rate=48000)
        for piece in resampler.resample(frame):
            container.mux(output.encode(piece))
        container.mux(output.encode(None))
    heard = OpusReader(RATE).feed(path.read_bytes())
    assert len(heard) == pytest.approx(RATE, abs=2500)
    assert np.abs(heard[5000:15000]).max() == pytest.approx(0.3, rel=0.25)


@pytest.mark.parametrize("packet", [b"", b"\xff\xff"])
def test_a_damaged_packet_is_left_out(packet):
    data = encoded(tone(0.16))
    writer, reader = OggWriter(0), OpusReader(RATE)
    pages = [writer.page([page.data], 0) for page in OggReader().feed(data)]
    assert reader.feed(b"".join(pages)).size == 2 * 1920
    assert reader.feed(writer.page([packet], 0)).size == 0
    assert reader.damaged == 1
    assert reader.feed(writer.page([OggReader().feed(data)[2].data], 0)).size == 1920


def test_packets_of_nothing_are_no_less_than_packets():
    writer, reader = OggWriter(0), OpusReader(RATE, max_seconds=1.0)
    reader.feed(encoded(tone(0.08)))
    pages = b"".join(writer.page([b""] * 255, 0) for _ in range(3))
    assert OpusReader(RATE, max_seconds=1.0).feed(encoded(tone(0.8))).size == 10 * 1920
    with pytest.raises(AudioError, match="at once"):
        reader.feed(pages)


@pytest.mark.parametrize(
    "head",
    [b"\x01vorbis" + bytes(30), b"OpusHead", b"OpusHead" + bytes([1, 6, 0, 0, 0, 0, 0, 0, 0, 0, 1]), b"fishead\0"],
)
def test_another_codec(head):
    with pytest.raises(AudioError, match=r"Opus"):
        OpusReader(RATE).feed(OggWriter(1).page([head], 0))


# Messages


def test_messages_come_back():
    for made, kind, payload in (
        (wire.handshake(), wire.Kind.HANDSHAKE, bytes(8)),
        (wire.audio(b"OggS"), wire.Kind.AUDIO, b"OggS"),
        (wire.text(" héllo"), wire.Kind.TEXT, " héllo".encode()),
        (wire.metadata({"type": "Queued", "position": 2}), wire.Kind.METADATA, b'{"type": "Queued", "position": 2}'),
        (wire.error("no"), wire.Kind.ERROR, b"no"),
        (wire.ping(), wire.Kind.PING, b""),
    ):
        assert wire.parse(made) == wire.Message(kind, payload)
        assert made[0] == kind


@pytest.mark.parametrize("data", [b"", b"\x07", b"\xff\x00"])
def test_messages_that_mean_nothing(data):
    assert wire.parse(data) is None
