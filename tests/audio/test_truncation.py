"""What is told to be cut short, and what only looks so."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame

from duplex.audio.truncation import is_truncated

RATE = 24000
SECONDS = 2.0
SOUND = (np.sin(np.arange(round(SECONDS * RATE)) / 20) * 8000).astype("<i2").tobytes()
SIZE = len(SOUND)


def write_wav(path, *, size, kind=b"RIFF", table=b"", before=b"", sound=SOUND, after=b"", riff=None):
    """Write a wav whose header says that there are ``size`` bytes of samples."""
    layout = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    body = b"WAVE" + table + layout + before + b"data" + struct.pack("<I", size) + sound + after
    path.write_bytes(kind + struct.pack("<I", len(body) if riff is None else riff) + body)
    return path


def table(samples):
    return b"ds64" + struct.pack("<IQQQI", 28, samples, samples, samples // 2, 0)


@pytest.mark.parametrize(
    "size",
    [0, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0x7FFFFFFF - 36, 0x7F000024, 0xFFFFFFFE, 0xFFFFFFFF - 44, 0xFFFFFFFF],
)
def test_a_writer_that_does_not_know_the_length(tmp_path, size):
    path = write_wav(tmp_path / "a.wav", size=size, riff=min(size + 36, 0xFFFFFFFF))
    assert not is_truncated(path, SECONDS)


@pytest.mark.parametrize("counted_in", [8, 36, 44])
def test_a_writer_that_counts_its_header_in(tmp_path, counted_in):
    assert not is_truncated(write_wav(tmp_path / "a.wav", size=SIZE + counted_in), SECONDS)


def test_what_lies_around_the_samples_does_not_matter(tmp_path):
    path = tmp_path / "a.wav"
    assert not is_truncated(write_wav(path, size=SIZE, riff=SIZE + 44), SECONDS)
    assert not is_truncated(write_wav(path, size=SIZE - 1, sound=SOUND[:-1]), SECONDS), "a pad byte is missing"
    assert not is_truncated(write_wav(path, size=SIZE, after=b"LIST" + struct.pack("<I", 5000)), SECONDS)
    junk = b"JUNK" + struct.pack("<I", 27) + bytes(28)
    assert not is_truncated(write_wav(path, size=SIZE, before=junk), SECONDS)
    assert is_truncated(write_wav(path, size=2 * SIZE, before=junk), SECONDS)


@pytest.mark.parametrize("kind", [b"RF64", b"BW64"])
def test_a_large_wav_has_its_length_in_a_table(tmp_path, kind):
    path = tmp_path / "a.wav"
    for samples, cut in ((SIZE, False), (0, False), (2**64 - 1, False), (2**63 - 1, False), (5 * 2**30, True)):
        write_wav(path, size=0xFFFFFFFF, kind=kind, table=table(samples), riff=0xFFFFFFFF)
        assert is_truncated(path, SECONDS) is cut, samples


@pytest.mark.parametrize("lost", [500, SIZE // 2, SIZE])
def test_a_wav_that_lacks_samples(tmp_path, lost):
    assert is_truncated(write_wav(tmp_path / "a.wav", size=SIZE, sound=SOUND[:-lost]), SECONDS - lost / 2 / RATE)


def encode(path, codec, *, container=None, silent=0.0, options=None):
    """Write seconds of silence, then noise, and return the path."""
    pcm = (0.3 * np.random.default_rng(0).standard_normal((1, 8 * 48000))).astype(np.float32)
    pcm[:, : round(silent * 48000)] = 0
    with av.open(str(path), "w", format=container, container_options=options or {}) as output:
        stream = output.add_stream(codec, rate=48000, layout="mono")
        context = stream.codec_context
        if codec == "libmp3lame":
            context.options = {"q": "4"}
        frame = AudioFrame.from_ndarray(pcm, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
        resampler = av.AudioResampler(context.format.name, "mono", 48000, context.frame_size or 4096)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("name", "codec"), [("a.mp3", "libmp3lame"), ("a.aac", "aac"), ("a.ac3", "ac3")])
def test_an_estimate_from_the_bit_rate_promises_nothing(tmp_path, name, codec):
    options = {"write_xing": "0"} if codec == "libmp3lame" else None
    path = encode(tmp_path / name, codec, silent=4.0, options=options)
    assert not is_truncated(path, 1.0), "the file states no length"


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp3", "libmp3lame"), ("a.flac", "flac"), ("a.mka", "flac"), ("a.aiff", "pcm_s16be"), ("a.w64", "pcm_s16le")],
)
def test_a_stated_length_that_was_not_heard(tmp_path, name, codec):
    path = encode(tmp_path / name, codec)
    assert not is_truncated(path, 8.0)
    assert is_truncated(path, 5.0)


def test_an_aiff_from_a_pipe(tmp_path):
    path = encode(tmp_path / "a.aiff", "pcm_s16be")
    content = bytearray(path.read_bytes())
    sound, frames = content.index(b"SSND") + 4, content.index(b"COMM") + 10
    content[sound : sound + 4] = struct.pack(">I", 0x7F000008)
    content[frames : frames + 4] = struct.pack(">I", 0x7F000000 // 2)
    path.write_bytes(content)
    assert not is_truncated(path, 8.0)


def test_sound_that_ends_before_the_picture(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as output:
        sound = output.add_stream("pcm_s16le", rate=RATE, layout="mono")
        picture = output.add_stream("mpeg4", rate=10)
        picture.width, picture.height, picture.pix_fmt = 64, 64, "yuv420p"
        frame = AudioFrame.from_ndarray(np.zeros((1, RATE), np.int16), format="s16", layout="mono")
        frame.sample_rate = RATE
        output.mux([*sound.encode(frame), *sound.encode(None)])
        for index in range(50):
            image = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            image.pts = index
            output.mux(picture.encode(image))
        output.mux(picture.encode(None))
    assert not is_truncated(path, 1.0)


def test_an_ogg_says_where_it_ends(tmp_path):
    path = encode(tmp_path / "a.ogg", "libopus")
    assert not is_truncated(path, 8.0)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert is_truncated(path, 4.0)


def test_what_is_gone_counts_as_whole(tmp_path):
    assert not is_truncated(tmp_path / "a.wav", 1.0)
